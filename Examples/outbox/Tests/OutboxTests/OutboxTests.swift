import AMQPPool
import Foundation
import LocalBroker
import Supervision
import Synchronization
import Testing

@testable import Outbox

@Suite("The outbox", .timeLimit(.minutes(5)), .serialized)
struct OutboxTests {
    private func withShop(_ body: (Shop, LocalBroker, String) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "outbox-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let path = folder.appending(path: "shop.sqlite").path
        let broker = try await LocalBroker.start()
        do {
            try await body(Shop(path), broker, path)
        } catch {
            await broker.shutdown()
            throw error
        }
        await broker.shutdown()
    }

    @Test("An order that is rolled back is not told of")
    func rolledBack() async throws {
        let shop = try await Shop(":memory:")
        await #expect(throws: DatabaseError.self) {
            try await shop.database.transaction { (database: isolated Database) throws(DatabaseError) in
                try database.run("INSERT INTO orders DEFAULT VALUES")
                try database.enqueue([], to: "orders")
                throw DatabaseError(code: 1, description: "no stock")
            }
        }
        #expect(try await shop.database.outgoing().isEmpty)
        #expect(try await shop.books().orders.isEmpty)
    }

    @Test("A message is handled once, however often it is delivered")
    func inbox() async throws {
        let shop = try await Shop(":memory:")
        for isFirst in [true, false] {
            let isRun = try await shop.database.once(for: "a") { (database: isolated Database) throws(DatabaseError) in
                try database.run("INSERT INTO shipments (number) VALUES (1)")
            }
            #expect(isRun == isFirst)
        }
        await #expect(throws: DatabaseError.self) {
            try await shop.database.once(for: "b") { (_: isolated Database) throws(DatabaseError) in
                throw DatabaseError(code: 1, description: "no stock")
            }
        }
        #expect(try await shop.database.once(for: "b") { _ in }, "what failed is run again")
        #expect(try await shop.books().shipments == [1])
    }

    @Test(
        "A relay that is killed between the confirm and the deletion, or after it, loses nothing; each order is shipped once",
        arguments: [OutboxRelay.Step.confirmed, .deleted]
    )
    func killed(_ step: OutboxRelay.Step) async throws {
        try await withShop { shop, broker, _ in
            let pool = AMQPPool(endpoints: [try Endpoint(url: broker.url)])
            let kills = Mutex(0)
            let relay = Mutex<Pid?>(nil)
            let tree = shop.tree(on: pool) { done in
                // Every third time, until it was killed three times.
                let isDue = kills.withLock { count in
                    count += done == step ? 1 : 0
                    return done == step && count.isMultiple(of: 3) && count <= 9
                }
                if isDue { relay.withLock { $0 }?.kill() }
            }
            try await tree.start()
            for _ in 0..<20 {
                try await shop.takeOrder()
                relay.withLock { [pid = try? tree.child("relay", as: OutboxRelay.self).pid] in $0 = pid }
            }
            let watch = Task {
                while !Task.isCancelled {
                    relay.withLock { [pid = try? tree.child("relay", as: OutboxRelay.self).pid] in $0 = pid }
                    try await Task.sleep(for: .milliseconds(1))
                }
            }
            #expect(try await shop.waitUntilShipped(atMost: .seconds(60)))
            watch.cancel()
            let (orders, shipments) = try await shop.books()
            #expect(orders.count == 20)
            #expect(shipments.sorted() == orders)
            await tree.stop()
        }
    }

    @Test("The whole program is killed again and again while it takes orders: each that it took is shipped once")
    func killedProcess() async throws {
        try await withShop { shop, broker, path in
            for afterLines in [1, 7, 20] {
                try await program([broker.url, path, "1000"], killedAfter: afterLines)
            }
            let output = try await program([broker.url, path, "5"], killedAfter: nil)
            #expect(output.last == "shipped")
            let (orders, shipments) = try await shop.books()
            #expect(orders.count >= 33)
            #expect(shipments.sorted() == orders)
        }
    }

    /// Runs the program, and kills it when it has printed so many lines.
    @discardableResult
    private func program(_ arguments: [String], killedAfter count: Int?) async throws -> [String] {
        let process = Process()
        process.executableURL = Bundle(for: Here.self).bundleURL.deletingLastPathComponent().appending(path: "shop")
        if !FileManager.default.isExecutableFile(atPath: process.executableURL?.path ?? "") {
            process.executableURL = URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(
                path: "shop"
            )
        }
        process.arguments = arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        try process.run()
        var lines: [String] = []
        for try await line in pipe.fileHandleForReading.bytes.lines {
            lines.append(line)
            if lines.count == count { kill(process.processIdentifier, SIGKILL) }
        }
        process.waitUntilExit()
        return lines
    }
}

private final class Here {}
