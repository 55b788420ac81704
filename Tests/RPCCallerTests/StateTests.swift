import AMQPPool
import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Testing

@Suite("States", .timeLimit(.minutes(4)))
struct StateTests {
    /// Waits until the stream has told these, in this order, whatever comes between.
    func expect<State: Equatable>(
        _ expected: [State],
        in states: AsyncStream<State>,
        _ location: SourceLocation = #_sourceLocation
    ) -> Task<Void, Never> where State: Sendable {
        Task {
            var rest = expected[...]
            for await state in states {
                if state == rest.first { rest = rest.dropFirst() }
                if rest.isEmpty { return }
            }
            Issue.record("not told: \(rest)", sourceLocation: location)
        }
    }

    @Test("a caller and a receiver tell when they start, are ready, stop and start again")
    func life() async throws {
        try await withServices { services in
            let rpc = RPCCaller(service: "test2", endpoints: [try Endpoint(url: services.url)], logger: quiet)
            let receiver = RPCReceiver(
                service: "math2",
                endpoints: [try Endpoint(url: services.url)],
                logger: quiet
            ) {
                RPCHandler("one") { (_: Int, _) in 1 }
            }
            let caller = expect([.stopped, .connecting, .ready, .stopping, .stopped, .ready], in: rpc.states)
            let other = expect([.stopped, .connecting, .ready, .stopping, .stopped, .ready], in: receiver.states)
            for _ in 0..<2 {
                try await receiver.start()
                try await rpc.start()
                try await receiver.waitUntilReady(timeout: .seconds(90))
                let one: Int = try await rpc.call("math2", "one", 0)
                #expect(one == 1)
                await rpc.stop()
                await receiver.stop()
            }
            await caller.value
            await other.value
        }
    }

    @Test("a lost reply queue and a lost request queue make them connect again, and be ready again")
    func queuesLost() async throws {
        try await withServices { services in
            let caller = expect([.ready, .connecting, .ready], in: services.rpc.states)
            let receiver = expect([.ready, .connecting, .ready], in: services.receiver.states)
            try await eventually("both channels consume") {
                try await services.broker.queue("math.rpcs", virtualHost: services.virtualHost)?.consumers == 2
            }
            try await services.broker.deleteQueue(try services.replyQueueName(), virtualHost: services.virtualHost)
            try await services.broker.deleteQueue("math.rpcs", virtualHost: services.virtualHost)
            await caller.value
            await receiver.value
        }
    }

    @Test("waiting for readiness ends at its deadline with the reason, and when it is cancelled")
    func waiting() async throws {
        let rpc = RPCCaller(service: "test", endpoints: ["amqp://127.0.0.1:1"], logger: quiet)
        let receiver = RPCReceiver(service: "math", endpoints: ["amqp://127.0.0.1:1"], logger: quiet) {
            RPCHandler("one") { (_: Int, _) in 1 }
        }
        try await rpc.start()
        try await receiver.start()
        try await eventually("the endpoint is named") {
            let result = await outcome { () throws(RPCError) in
                try await rpc.waitUntilReady(timeout: .milliseconds(300))
            }
            guard case .failure(.notConnected(let why)) = result else { return false }
            return why.contains("127.0.0.1:1")
        }
        try await eventually("the endpoint is named") {
            do throws(AMQPError) {
                try await receiver.waitUntilReady(timeout: .milliseconds(300))
                return false
            } catch {
                return "\(error)".contains("127.0.0.1:1")
            }
        }
        let cancelled = Task {
            await outcome { () throws(RPCError) in try await rpc.waitUntilReady(timeout: .seconds(600)) }
        }
        cancelled.cancel()
        guard case .failure(.cancelled(requestMayHaveBeenDelivered: false)) = await cancelled.value else {
            Issue.record("\(await cancelled.value)")
            return
        }
        await receiver.stop()
        await rpc.stop()
    }
}
