import AMQPPool
import AMQPTesting
import RPCCaller
import RPCReceiver
import Supervision

/// One tree with everything in it: a receiver, a caller, and a pool with a consumer; with a load on it, each behind a network of
/// its own that can be broken.
///
///     shop                     one for one
///     |- receiver              answers "math"
///     |- caller
///     |- amqp-pool
///     `- orders                consumes "orders" with a channel of the pool
package struct Shop: Sendable {
    package let broker: LocalBroker
    package let virtualHost: String
    package let view: BrokerView
    package let load: Load
    private let proxies: [FaultProxy]
    private let parts = Latest<Parts>()

    private struct Parts: Sendable {
        var caller: RPCCaller
        var receiver: RPCReceiver
        var pool: AMQPPool
    }

    /// - Parameter clients: How many calls wait at any time.
    package static func open(_ broker: LocalBroker, virtualHost: String = "/", clients: Int = 200) async throws -> Shop
    {
        var proxies: [FaultProxy] = []
        for _ in 0..<3 { proxies.append(try await FaultProxy.start(to: broker)) }
        return Shop(broker, virtualHost, clients, proxies)
    }

    private init(_ broker: LocalBroker, _ virtualHost: String, _ clients: Int, _ proxies: [FaultProxy]) {
        self.broker = broker
        self.virtualHost = virtualHost
        self.proxies = proxies
        view = BrokerView(broker, virtualHost)
        let parts = parts
        load = Load(clients: clients, caller: { try parts.value().caller }, pool: { try parts.value().pool })
    }

    package func close() async {
        await load.pause()
        for proxy in proxies { await proxy.shutdown() }
    }

    /// A new tree.
    private func tree() throws -> Supervisor {
        let url = { (proxy: FaultProxy) in virtualHost == "/" ? proxy.url : proxy.url(virtualHost: virtualHost) }
        let caller = try Services.caller(url(proxies[0]), intensity: Services.patience)
        let load = load
        let receiver = try Services.receiver(url(proxies[1]), intensity: Services.patience) { load.procedures }
        let pool = AMQPPool(configuration: try Services.pool(url(proxies[2])), logger: Services.quiet)
        parts.set(Parts(caller: caller, receiver: receiver, pool: pool))
        var consumer = ConsumerConfiguration()
        consumer.concurrency = 20
        consumer.reopenBackoff = Services.backoff
        consumer.drainTimeout = .seconds(3)
        return Supervisor("shop", intensity: Services.patience, logger: Services.quiet) {
            receiver.supervisor
            caller.supervisor
            pool.supervisor
            Child.consumer("orders", of: "orders", on: pool, configuration: consumer) { channel in
                try await channel.declareQueue("orders", durable: true)
            } handler: { delivery in
                try await load.handle(delivery)
            }
        }
    }

    // MARK: What is played

    /// Everything that can happen around the tree. Those that take the whole broker away only for a broker of one's own.
    package func faults(ownBroker: Bool) -> [Chaos.Fault] {
        let isReplyQueue = { @Sendable (queue: QueueInfo) in queue.name.contains(".replies.") }
        var faults = ["caller", "receiver", "consumer"].enumerated().flatMap { index, name in
            Chaos.Fault.network(proxies[index], "\(name)-network", for: .milliseconds(500))
        }
        faults += Chaos.Fault.administration(broker, virtualHost: virtualHost).filter { $0.name != "queue-deleted" }
        let replies = Chaos.Fault.queueDeleted(broker, virtualHost: virtualHost, where: isReplyQueue)
        faults.append(replies.named("reply-queue-deleted"))
        faults = faults.map { $0.weighted(4) }
        let others = Chaos.Fault.queueDeleted(broker, virtualHost: virtualHost, where: { !isReplyQueue($0) })
        faults.append(others.named("request-queue-deleted"))
        if ownBroker {
            faults += Chaos.Fault.broker(broker, for: .milliseconds(500)) + [Chaos.Fault.brokerWiped(broker)]
        }
        return faults
    }

    /// How the tree is played with.
    package func chaos(faults: [Chaos.Fault], leaks: Chaos.LeakCheck = .ofTheTree) -> Chaos {
        let shop = self
        return Chaos(
            invariants: [
                Chaos.Invariant("whatever was asked ended once, and as it should; the next call works") { _ in
                    await shop.load.resume()
                } check: { scene, _ in
                    try await shop.check(scene)
                }
            ],
            faults: faults,
            timeout: .seconds(180),
            leaks: leaks,
            ready: { _ in try await shop.becomesQuiet() }
        ) {
            try shop.tree()
        }
    }

    private func check(_ scene: Chaos.Invariant.Scene) async throws {
        await load.pause()
        // Not before: what is still in a queue may still run.
        try await becomesQuiet()
        let disturbance = Disturbance(scene, caller: "shop/caller")
        // The broker is asked, and not the faults: it need not have lost a message in a restart.
        let unmarked = Set(try await broker.queuesWithoutMarks(virtualHost: virtualHost))
        try load.judge(losesMessages: disturbance.losesMessages, unmarked: unmarked, permits: disturbance.permits)
        let (caller, receiver) = (try parts.value().caller, try parts.value().receiver)
        let sum = try await caller.call("math", "echo", 0, as: Int.self)
        try Chaos.require(sum == 1, "the echo of 0 is \(sum)")
        try Chaos.require(caller.pendingCount == 0, "\(caller.pendingCount) calls are left in the caller's table")
        try Chaos.require(receiver.inFlight == 0, "\(receiver.inFlight) requests are left in the receiver's table")
    }

    /// Waits until all is there and nothing is under way.
    private func becomesQuiet() async throws {
        try await view.becomes(
            [
                "math.rpcs: 2 consumers, 0 messages", "orders: 1 consumers, 0 messages",
                "reply queue: 2 consumers, 0 messages", "6 connections, 7 channels",
            ],
            replyQueue: { try parts.value().caller.replyQueueName }
        )
        var open = 0
        for proxy in proxies { open += await proxy.connections.count }
        try Chaos.require(open == 6, "\(open) TCP connections are open, and not 6")
    }

    /// What the broker still has when the tree has been stopped.
    package func leavesNothing() async throws {
        try await view.becomes([
            "math.rpcs: 0 consumers, 0 messages", "orders: 0 consumers, 0 messages", "0 connections, 0 channels",
        ])
    }
}
