import AMQPPool
import NIOCore
import RPCCaller
import RPCReceiver
import ServiceLifecycle
import Supervision
import SupervisionTesting
import Testing

/// Pool, caller and receiver, and what their trees end with. No broker is there, so that everything has to wait.
@Suite("When a tree has ended", .timeLimit(.minutes(2)))
struct EndedTreeTests {
    /// How a tree comes to be down, without anybody having stopped the pool, the caller or the receiver.
    enum End: CaseIterable, Sendable {
        case rootCrashed
        case siblingFailedToStart
        case largerTreeGaveUp
    }

    private struct Unwell: Error {}

    private actor Plain {}

    /// Starts the supervisor, alone or in a larger tree, and has that end.
    private func end(_ supervisor: Supervisor, by end: End) async throws {
        switch end {
        case .rootCrashed:
            try await supervisor.start()
            let pid = try #require(supervisor.pid)
            try LiveTree(supervisor).end(supervisor.tree().name, by: .crash(Unwell()))
            _ = await pid.exited()
        case .siblingFailedToStart:
            let app = Supervisor("app", logger: quiet) {
                supervisor
                Child("broken") { _ -> Plain? in throw Unwell() }
            }
            await #expect(throws: SupervisionError.self) { try await app.start() }
        case .largerTreeGaveUp:
            let app = Supervisor("app", intensity: .init(0, within: .seconds(1)), logger: quiet) {
                supervisor
                Child("broken") { _ in Plain() }
            }
            try await app.start()
            let pid = try #require(app.pid)
            try LiveTree(app).end("app/broken", by: .crash(Unwell()))
            _ = await pid.exited()
        }
    }

    private let nobody = "amqp://guest:guest@127.0.0.1:1"
    private let long = Duration.seconds(3600)

    @Test(
        "what a pool is asked fails at once, with the reason, and works again when it is started",
        arguments: End.allCases
    )
    func pool(by end: End) async throws {
        let pool = AMQPPool(endpoints: [try Endpoint(url: nobody)], logger: quiet)
        let waiting = Task { try await pool.publish(ByteBuffer(), routingKey: "q", timeout: long) }
        try await self.end(pool.supervisor, by: end)
        for publish in [waiting, Task { try await pool.publish(ByteBuffer(), routingKey: "q", timeout: long) }] {
            await #expect {
                try await publish.value
            } throws: { error in
                guard case AMQPError.notSent(.poolEnded(let why)) = error else { return false }
                return why.contains("Unwell")
            }
        }
        await #expect(throws: AMQPError.self) { try await pool.waitUntilReady(timeout: long) }
        guard end == .rootCrashed else {
            // The larger tree starts it, and nobody else.
            await #expect(throws: SupervisionError.self) { try await pool.start() }
            return
        }
        try await pool.start()
        await #expect {
            try await pool.waitUntilReady(timeout: .milliseconds(100))
        } throws: { error in
            guard case AMQPError.notSent(.notConnected) = error else { return false }
            return true
        }
        await pool.stop()
    }

    @Test("what a caller is asked fails at once, with the reason", arguments: End.allCases)
    func caller(by end: End) async throws {
        let rpc = RPCCaller(service: "test", endpoints: [try Endpoint(url: nobody)], logger: quiet)
        try await self.end(rpc.supervisor, by: end)
        await #expect {
            let _: Int = try await rpc.call("math", "add", [1], timeout: long)
        } throws: { error in
            guard case RPCError.notConnected(let why) = error else { return false }
            return why.contains("Unwell")
        }
        await #expect(throws: RPCError.self) { try await rpc.waitUntilReady(timeout: long) }
    }

    @Test("waiting for a receiver fails at once, with the reason", arguments: End.allCases)
    func receiver(by end: End) async throws {
        let receiver = RPCReceiver(service: "math", endpoints: [try Endpoint(url: nobody)], logger: quiet) {
            RPCHandler("one") { (_: Int, _) in 1 }
        }
        try await self.end(receiver.supervisor, by: end)
        await #expect {
            try await receiver.waitUntilReady(timeout: long)
        } throws: { error in
            guard case AMQPError.poolEnded(let why) = error else { return false }
            return why.contains("Unwell")
        }
    }

    @Test("a graceful shutdown of their group ends pool, caller and receiver that have found no broker")
    func shutDownAtBoot() async throws {
        let endpoint = try Endpoint(url: nobody)
        let services: [any Service] = [
            AMQPPool(endpoints: [endpoint], logger: quiet),
            RPCCaller(service: "test", endpoints: [endpoint], logger: quiet),
            RPCReceiver(service: "math", endpoints: [endpoint], logger: quiet) {
                RPCHandler("one") { (_: Int, _) in 1 }
            },
        ]
        for service in services {
            let group = ServiceGroup(configuration: .init(services: [.init(service: service)], logger: quiet))
            let run = Task { try await group.run() }
            await group.triggerGracefulShutdown()
            try await run.value
        }
    }
}
