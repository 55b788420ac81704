import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import SupervisionTesting
import Testing

@testable import AMQPPool

@Suite("A pool that runs twice, or no more")
struct PoolLifeTests {
    private func pool() -> AMQPPool {
        var configuration = PoolConfiguration(endpoints: ["amqp://127.0.0.1:1"])
        configuration.connection.operationTimeout = .seconds(3600)
        configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
        return AMQPPool(configuration: configuration)
    }

    @Test("One that is a child of a tree cannot be started as well, and one that was started cannot become a child")
    func twice() async throws {
        let first = pool()
        let tree = Supervisor("app") { first.supervisor }
        try await tree.start()
        await #expect(throws: (any Error).self) { try await first.start() }
        #expect(first.isRunning)
        await tree.stop()
        let second = pool()
        try await second.start()
        let other = Supervisor("app") { second.supervisor }
        do {
            try await other.start()
            Issue.record("runs twice")
        } catch {}
        #expect(second.isRunning)
        await other.stop()
        #expect(second.isRunning)
        await second.stop()
    }

    @Test("When it has given up, or the tree it is in has, operations fail at once with the reason")
    func ended() async throws {
        let pool = pool()
        let tree = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) {
            pool.supervisor
            Child("bomb") { _ in Bomb() }
        }
        try await tree.start()
        let waiter = Task {
            await failure { () async throws(AMQPError) in try await pool.waitUntilReady(timeout: .seconds(3600)) }
        }
        try await eventually("it waits") { pool.waiting == 1 }
        try LiveTree(tree).process("app/bomb").pid.exit(.shutdown(cause: TookTooLong()))
        for error in [
            try await within(.seconds(60)) { await waiter.value },
            try await within(.seconds(60)) {
                await failure { () async throws(AMQPError) in try await pool.publish(ByteBuffer(), routingKey: "q") }
            },
        ] {
            guard case .notSent(.poolEnded(let reason)) = error else {
                Issue.record("\(String(describing: error))")
                continue
            }
            #expect(!reason.isEmpty)
        }
        await tree.stop()
    }

    @Test("One that was stopped says so at once, whatever the timeout")
    func stopped() async throws {
        let pool = pool()
        try await pool.start()
        await pool.stop()
        let error = try await within(.seconds(60)) {
            await failure { () async throws(AMQPError) in try await pool.publish(ByteBuffer(), routingKey: "q") }
        }
        guard case .notSent(.poolNotRunning) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
    }

    private actor Bomb {}
}

extension AMQPPool {
    fileprivate var isRunning: Bool { state != .stopped }
}
