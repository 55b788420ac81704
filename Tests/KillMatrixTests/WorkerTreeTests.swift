import AMQPPool
import AMQPTesting
import BrokerSupport
import ChaosSupport
import Testing

/// A tree with workers in it: one that keeps the order of keys and has some of its messages tried again by way of the broker, and one
/// that works in batches. The whole matrix takes longer on a machine that is busy.
@Suite("A tree with workers", .timeLimit(.minutes(Matrix.folder == nil ? 15 : 60)))
struct WorkerTreeTests {
    @Test("handles or parks every message, and keeps the order of a key, whatever ends", arguments: Matrix.shares)
    func matrix(_ share: Int) async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let depot = Depot(broker, virtualHost: virtualHost)
            try await Matrix.play(depot.chaos(proxy.url(virtualHost: virtualHost)), "workers", share: share)
            await proxy.shutdown()
        }
    }

    @Test("handles or parks every message, whatever happens to its network and its connections")
    func faults() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let depot = Depot(broker, virtualHost: virtualHost)
            let faults =
                Chaos.Fault.network(proxy, for: .milliseconds(300))
                + Chaos.Fault.administration(broker, virtualHost: virtualHost).filter { $0.name != "queue-deleted" }
            let chaos = depot.chaos(proxy.url(virtualHost: virtualHost), faults)
            try await Matrix.play("worker-faults") { try await chaos.eachFault() }
            await proxy.shutdown()
        }
    }
}
