import AMQPPool
import BrokerSupport
import LocalBroker
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting
import Synchronization
import Testing

@Suite("While a caller or a receiver starts anew, and cannot connect")
struct RestartTests {
    @Test("who waits until the caller is ready goes on waiting, and a call made meanwhile waits too and is answered")
    func caller() async throws {
        try await withServices { services in
            let proxy = try await FaultProxy.start(to: services.broker)
            try await proxy.setNewConnections(.ignored)
            let endpoint = try Endpoint(url: proxy.url(virtualHost: services.virtualHost))
            var configuration = RPCCallerConfiguration(endpoints: [endpoint])
            configuration.pool.connection.connectTimeout = .seconds(1)
            configuration.pool.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100), jitter: 1)
            configuration.timeout = .seconds(120)
            configuration.intensity = RestartIntensity(100, within: .seconds(1))
            let rpc = RPCCaller(service: "test", configuration: configuration, logger: quiet)
            try await rpc.start()
            let ready = Task { try await rpc.waitUntilReady(timeout: .seconds(120)) }
            try await eventually("it waits") { rpc.pendingCount == 1 }
            for path in ["caller/registry", "caller/pending", "caller/pool"] {
                let queue = rpc.replyQueueName
                try LiveTree(rpc.supervisor).end(path)
                try await eventually("it waits in the next table") {
                    rpc.replyQueueName != queue && rpc.pendingCount == 1
                }
                try await LiveTree(rpc.supervisor).restarted()
            }
            let sum = Task { try await rpc.call("math", "add", [4, 9], as: Int.self) }
            try await eventually("both wait") { rpc.pendingCount == 2 }
            try await proxy.setNewConnections(.accepted)
            try await ready.value
            #expect(try await sum.value == 13)
            await rpc.stop()
            let start = ContinuousClock.now
            await #expect(throws: RPCError.self) { try await rpc.waitUntilReady(timeout: .seconds(600)) }
            #expect(start.duration(to: .now) < .seconds(300))
            await proxy.shutdown()
        }
    }

    @Test(
        "calls made while a caller inside a larger tree is told to end wait for the next incarnation, and are answered"
    )
    func told() async throws {
        try await withServices { services in
            var configuration = RPCCallerConfiguration(endpoints: [try Endpoint(url: services.url)])
            configuration.timeout = .seconds(120)
            let rpc = RPCCaller(service: "test2", configuration: configuration, logger: quiet)
            let app = Supervisor("app", logger: quiet) {
                Supervisor("part", logger: quiet) { rpc.supervisor }
            }
            try await app.start()
            try await rpc.waitUntilReady(timeout: .seconds(60))
            let held = Task { try await rpc.call("math", "hold", 7, as: Int.self) }
            await services.gate.waitForArrivals(1)
            let queue = rpc.replyQueueName
            try LiveTree(app).end("app/part/caller", by: .shutdown)
            for await state in rpc.states where state == .stopping { break }
            let late = (0..<10).map { n in Task { try await rpc.call("math", "add", [n, 1], as: Int.self) } }
            let ready = Task { try await rpc.waitUntilReady(timeout: .seconds(120)) }
            services.gate.open()
            #expect(try await held.value == 7)
            for (n, task) in late.enumerated() { #expect(try await task.value == n + 1) }
            try await ready.value
            #expect(rpc.replyQueueName != queue)
            await app.stop()
        }
    }

    @Test("calls that fail at once, again and again without a pause, leave the threads to others")
    func fairness() async throws {
        try await withServices { services in
            await services.rpc.stop()
            await expectFairness {
                await #expect(throws: RPCError.self) {
                    try await services.rpc.call("math", "add", [4, 9], as: Int.self)
                }
            }
            let pool = AMQPPool(endpoints: [try Endpoint(url: services.url)])
            try await pool.start()
            await pool.stop()
            await expectFairness {
                await #expect(throws: AMQPError.self) { try await pool.waitUntilReady(timeout: .seconds(90)) }
            }
        }
    }

    /// Lets more tasks than there are threads try for ever, and one that comes after them end that.
    private func expectFairness(_ fail: @escaping @Sendable () async -> Void) async {
        let isOver = Atomic(false)
        let deadline = ContinuousClock.now + .seconds(60)
        let tryForEver = { @Sendable in
            while !isOver.load(ordering: .acquiring), ContinuousClock.now < deadline { await fail() }
        }
        let end = { @Sendable in isOver.store(true, ordering: .releasing) }
        let tasks = (0..<200).map { _ in Task { await tryForEver() } } + [Task { end() }]
        for task in tasks { await task.value }
        #expect(ContinuousClock.now < deadline)
    }

    @Test("who waits until the receiver is ready goes on waiting")
    func receiver() async throws {
        try await withServices { services in
            let proxy = try await FaultProxy.start(to: services.broker)
            try await proxy.setNewConnections(.ignored)
            var configuration = services.receiverConfiguration
            configuration.pool.endpoints = [try Endpoint(url: proxy.url(virtualHost: services.virtualHost))]
            configuration.pool.connection.connectTimeout = .seconds(1)
            configuration.intensity = RestartIntensity(100, within: .seconds(1))
            let receiver = RPCReceiver(
                service: "late",
                configuration: configuration,
                logger: quiet,
                procedures: RPCHandlers { RPCHandler("one") { (_: Int, _) in 1 } }
            )
            try await receiver.start()
            let registry = { @Sendable in
                try receiver.supervisor.child("registry", as: ChannelRegistry.self).resolve()
            }
            let ready = Task { try await receiver.waitUntilReady(timeout: .seconds(120)) }
            try await eventually("it waits") { try registry().waiting == 1 }
            for path in ["receiver/registry", "receiver/handlers", "receiver/pool"] {
                try LiveTree(receiver.supervisor).end(path)
                try await LiveTree(receiver.supervisor).restarted()
                try await eventually("it waits again") { try registry().waiting == 1 }
            }
            try await proxy.setNewConnections(.accepted)
            try await ready.value
            #expect(try await services.rpc.call("late", "one", 0, as: Int.self) == 1)
            await receiver.stop()
            let start = ContinuousClock.now
            await #expect(throws: AMQPError.self) { try await receiver.waitUntilReady(timeout: .seconds(600)) }
            #expect(start.duration(to: .now) < .seconds(300))
            await proxy.shutdown()
        }
    }
}
