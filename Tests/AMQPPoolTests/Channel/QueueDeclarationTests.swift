import BrokerSupport
import ConcurrencyPrimitives
import Testing

@testable import AMQPPool

@Suite("Declarations of the same queue in one process")
struct QueueDeclarationTests {
    @Test("Those of one queue run one after another, those of others beside them")
    func inTurn() async throws {
        let name = "q\(UInt64.random(in: .min ... .max))"
        let (begun, mayEnd) = (OneShot<Void>(), OneShot<Void>())
        let order = Monitor([String]())
        async let first: Void = QueueDeclarations.inTurn(name, virtualHost: "/", longestWait: .seconds(600)) {
            () async throws(AMQPError) in
            begun.set(())
            _ = try? await mayEnd.value()
            order.change { $0.append("first") }
        }
        _ = try await begun.value()
        async let second: Void = QueueDeclarations.inTurn(name, virtualHost: "/", longestWait: .seconds(600)) {
            () async throws(AMQPError) in
            order.change { $0.append("second") }
        }
        for (name, virtualHost) in [(name + "x", "/"), (name, "other")] {
            try await QueueDeclarations.inTurn(name, virtualHost: virtualHost, longestWait: .seconds(600)) {
                () async throws(AMQPError) in
                order.change { $0.append("other") }
            }
        }
        mayEnd.set(())
        try await first
        try await second
        #expect(order.read { $0 } == ["other", "other", "first", "second"])
    }

    @Test("One that takes too long is not waited for, and one that fails makes room; a cancelled task stops waiting")
    func bounded() async throws {
        let name = "q\(UInt64.random(in: .min ... .max))"
        let (begun, mayEnd) = (OneShot<Void>(), OneShot<Void>())
        async let first: Void = QueueDeclarations.inTurn(name, virtualHost: "/") { () async throws(AMQPError) in
            begun.set(())
            _ = try? await mayEnd.value()
            throw .notConnected([])
        }
        _ = try await begun.value()
        let ahead = try await QueueDeclarations.inTurn(name, virtualHost: "/", longestWait: .milliseconds(5)) {
            () async throws(AMQPError) in
            1
        }
        #expect(ahead == 1)
        let waiting = Task {
            try await QueueDeclarations.inTurn(name, virtualHost: "/", longestWait: .seconds(600)) {
                () async throws(AMQPError) in
                Issue.record("it was not its turn")
            }
        }
        waiting.cancel()
        await #expect(throws: AMQPError.self) { try await waiting.value }
        mayEnd.set(())
        do {
            try await first
            Issue.record("its error is lost")
        } catch {
            #expect(error is AMQPError)
        }
        #expect(try await QueueDeclarations.inTurn(name, virtualHost: "/") { () async throws(AMQPError) in 2 } == 2)
    }

    @Test("The connections of a pool can create quorum queues at the same moment, and none is closed for it")
    func quorumQueues() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = ConnectionConfiguration()
            configuration.operationTimeout = .seconds(60)
            let endpoint = try Endpoint(url: url)
            var connections: [AMQPConnection] = []
            for _ in 0..<4 {
                connections.append(try await AMQPConnection.open(endpoint, configuration: configuration))
            }
            for number in 0..<3 {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for connection in connections {
                        group.addTask {
                            let channel = try await connection.openChannel()
                            try await channel.declareQueue(
                                "q\(number)",
                                arguments: ["x-queue-type": .string("quorum")]
                            )
                        }
                    }
                    try await group.waitForAll()
                }
            }
            #expect(connections.allSatisfy { $0.closedError == nil })
            for connection in connections { await connection.close() }
        }
    }
}
