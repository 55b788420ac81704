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
        try await shop.database.forgetInbox(olderThan: .seconds(3600))
        #expect(try await !shop.database.once(for: "a") { _ in }, "it came less than an hour ago")
        try await shop.database.forgetInbox(olderThan: .seconds(-3600))
        #expect(try await shop.database.once(for: "a") { _ in }, "what is forgotten is new")
    }

    @Test(
        "A relay that crashes between the confirms and the deletion, or after it, loses nothing; each order is shipped once",
        arguments: [OutboxRelay.Step.published, .deleted]
    )
    func crashed(_ step: OutboxRelay.Step) async throws {
        try await withShop { shop, broker, _ in
            struct Crash: Error {}
            let pool = AMQPPool(endpoints: [try Endpoint(url: broker.url)])
            let crashes = Mutex(0)
            // At every second step of the kind, three times.
            let steps = Mutex(0)
            let tree = shop.tree(on: pool) { done in
                guard done == step else { return }
                let isDue = steps.withLock { steps in
                    steps += 1
                    return steps.isMultiple(of: 2) && steps <= 6
                }
                guard isDue else { return }
                crashes.withLock { $0 += 1 }
                throw Crash()
            }
            try await tree.start()
            // At least one step for each.
            for _ in 0..<8 {
                for _ in 0..<5 { try await shop.takeOrder() }
                #expect(try await shop.waitUntilShipped(atMost: .seconds(60)))
            }
            #expect(crashes.withLock { $0 } == 3)
            let (orders, shipments) = try await shop.books()
            #expect(orders.count == 40)
            #expect(shipments.sorted() == orders)
            await tree.stop()
        }
    }

    @Test("Messages to a queue that is not there wait, and one that can never be sent is marked; the others pass them")
    func waiting() async throws {
        try await withShop { shop, broker, _ in
            for number in 0..<150 { try await shop.database.enqueue([], to: "nowhere", id: "waits-\(number)") }
            try await shop.database.enqueue([], to: String(repeating: "q", count: 300), id: "impossible")
            try await shop.takeOrder()
            let pool = AMQPPool(endpoints: [try Endpoint(url: broker.url)])
            let tree = shop.tree(on: pool)
            try await tree.start()
            #expect(try await eventually { try await shop.books().shipments == [1] })
            let left = try await shop.database.outgoing(limit: 1000)
            #expect(left.map(\.id) == (0..<150).map { "waits-\($0)" })
            let marked = try await shop.database.run("SELECT id FROM outbox WHERE refusal IS NOT NULL")
            #expect(marked == [[.text("impossible")]])
            try await pool.withDedicatedChannel { _ = try await $0.declareQueue("nowhere") }
            #expect(try await eventually { try await shop.database.outgoing().isEmpty })
            #expect(try await eventually { try await broker.queue("nowhere")?.messages ?? 0 >= 150 })
            await tree.stop()
        }
    }

    private func eventually(_ condition: () async throws -> Bool) async throws -> Bool {
        let deadline = ContinuousClock.now + .seconds(60)
        while ContinuousClock.now < deadline {
            if try await condition() { return true }
            try await Task.sleep(for: .milliseconds(10))
        }
        return false
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

    /// Runs the program, and kills it after it has printed this many lines.
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
        let output = AsyncStream<Data> { output in
            pipe.fileHandleForReading.readabilityHandler = { handle in
                let data = handle.availableData
                if data.isEmpty {
                    handle.readabilityHandler = nil
                    output.finish()
                } else {
                    output.yield(data)
                }
            }
        }
        try process.run()
        var text = Data()
        var isKilled = false
        for await data in output {
            text.append(data)
            let lines = text.count { $0 == UInt8(ascii: "\n") }
            if let count, lines >= count, !isKilled {
                isKilled = true
                kill(process.processIdentifier, SIGKILL)
            }
        }
        process.waitUntilExit()
        return String(decoding: text, as: UTF8.self).split(separator: "\n").map(String.init)
    }
}

private final class Here {}
