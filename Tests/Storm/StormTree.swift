import AMQPTesting
import ChaosSupport

/// What a storm plays with.
protocol StormTree: Sendable {
    func chaos(leaks: Chaos.LeakCheck) -> Chaos
    /// What became of calls and messages so far.
    var outcomes: [String: Int] { get }
    /// How many of them ran again.
    var reruns: Int { get }
    /// What is still there when the tree has been stopped.
    func leavesNothing() async throws
    func close() async
}

/// A receiver, a caller, a pool and a consumer.
struct StormShop: StormTree {
    private let shop: Shop

    init(_ shop: Shop) { self.shop = shop }

    var outcomes: [String: Int] { shop.load.ledger.totals }
    var reruns: Int { shop.load.ledger.reruns }

    func chaos(leaks: Chaos.LeakCheck) -> Chaos { shop.chaos(faults: shop.faults(ownBroker: true), leaks: leaks) }

    func leavesNothing() async throws { try await shop.leavesNothing() }

    func close() async { await shop.close() }
}

/// A pool and workers: with the order of keys, with delayed attempts, with batches.
struct StormDepot: StormTree {
    private let depot: Depot
    private let broker: LocalBroker
    private let proxy: FaultProxy

    init(_ broker: LocalBroker) async throws {
        self.broker = broker
        proxy = try await FaultProxy.start(to: broker)
        depot = Depot(broker, virtualHost: "/", intensity: Services.patience)
    }

    var outcomes: [String: Int] { depot.totals }
    var reruns: Int { depot.totals.filter { $0.key.hasSuffix("handled again") }.values.reduce(0, +) }

    func chaos(leaks: Chaos.LeakCheck) -> Chaos {
        var faults = Chaos.Fault.network(proxy, for: .milliseconds(500))
        faults += Chaos.Fault.administration(broker, virtualHost: "/").filter { $0.name != "queue-deleted" }
        faults = faults.map { $0.weighted(4) } + Chaos.Fault.broker(broker, for: .milliseconds(500))
        return depot.chaos(proxy.url, faults, leaks: leaks)
    }

    func leavesNothing() async throws {
        try await BrokerView(broker, "/").becomes("0 connections, 0 channels")
    }

    func close() async { await proxy.shutdown() }
}
