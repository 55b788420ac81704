import AMQPPool
import AMQPTesting
import BrokerSupport
import ChaosSupport
import Supervision
import Testing

/// That the faults happen: what a fault does not do, a tree survives easily.
@Suite("Faults around AMQP trees", .timeLimit(.minutes(10)))
struct FaultEffectTests {
    /// How many of two connections are the same ones after a fault, and what a channel was told.
    private struct Effect {
        var keeps: Int
        var error: String?

        func isTold(by errors: [String]) -> Bool {
            guard let error else { return true }
            return errors.contains { $0.contains(error) }
        }
    }

    @Test("break the network, or single connections, channels and queues")
    func networkAndAdministration() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            try await broker.declareQueue("q", virtualHost: virtualHost)
            let effects = [
                "network-cut": Effect(keeps: 1), "network-finished": Effect(keeps: 1),
                "network-all-cut": Effect(keeps: 0), "network-stalled": Effect(keeps: 2),
                "network-half-open": Effect(keeps: 2), "network-slow": Effect(keeps: 2),
                "network-refused": Effect(keeps: 0), "connection-closed": Effect(keeps: 1, error: "320"),
                "connection-dropped": Effect(keeps: 1), "channel-closed": Effect(keeps: 2, error: "406"),
                "queue-deleted": Effect(keeps: 2),
            ]
            let faults =
                Chaos.Fault.network(proxy, for: .milliseconds(100))
                + Chaos.Fault.administration(broker, virtualHost: virtualHost)
            try await Self.play(faults, effects, BrokerView(broker, virtualHost), proxy.url(virtualHost: virtualHost))
            let queues = try await broker.queues(virtualHost: virtualHost)
            #expect(queues.isEmpty, "the queue was deleted")
            await proxy.shutdown()
        }
    }

    @Test("take a broker away")
    func broker() async throws {
        try await TestBroker.own { broker in
            try await broker.declareQueue("q")
            let effects = [
                "broker-paused": Effect(keeps: 2), "memory-alarm": Effect(keeps: 2), "broker-killed": Effect(keeps: 0),
                "broker-restarted": Effect(keeps: 0, error: "320"), "broker-wiped": Effect(keeps: 0),
            ]
            let faults = Chaos.Fault.broker(broker, for: .milliseconds(100)) + [.brokerWiped(broker)]
            try await Self.play(faults, effects, BrokerView(broker, "/"), broker.url)
            let queues = try await broker.queues()
            #expect(queues.isEmpty, "the broker was wiped")
        }
    }

    @Test("take the node of a cluster away that holds a queue")
    func node() async throws {
        try await TestBroker.withCluster(nodes: 2) { cluster in
            try await cluster.nodes[1].declareQueue("q")
            let home = try #require(try await cluster.place(of: "q")?.leader)
            let id = await cluster.nodes[home].processID
            let other = await cluster.nodes[1 - home].processID
            let chaos = Chaos(faults: [.nodeKilled(cluster, holding: { "q" })], timeout: .seconds(180)) {
                Supervisor("app", logger: Services.quiet) { Child("a") { _ in Nobody() } }
            }
            try await chaos.eachFault()
            #expect(await cluster.nodes[home].processID != id)
            #expect(await cluster.nodes[1 - home].processID == other)
            #expect(try await cluster.running() == [0, 1])
        }
    }

    private static func play(
        _ faults: [Chaos.Fault],
        _ effects: [String: Effect],
        _ view: BrokerView,
        _ url: String
    ) async throws {
        let errors = Shared<[String]>([])
        let list = { @Sendable () async throws -> Set<String> in
            try await view.becomes("2 connections, 2 channels")
            return Set(try await view.broker.connections(virtualHost: view.virtualHost).map(\.name))
        }
        #expect(faults.map(\.name).allSatisfy { effects[$0] != nil })
        let chaos = Chaos(
            invariants: [
                Chaos.Invariant("what should end ends, and nothing else") { _ in
                    errors.with { $0 = [] }
                    return try await list()
                } check: { scene, before in
                    let fault = scene.kills.first?.path ?? ""
                    let effect = effects[fault] ?? Effect(keeps: -1)
                    // The broker answers that it ends something before it has ended, and lists it for a while.
                    let deadline = ContinuousClock.now + .seconds(60)
                    var (kept, told) = (before.intersection(try await list()).count, errors.with { $0 })
                    while kept != effect.keeps || !effect.isTold(by: told), ContinuousClock.now < deadline {
                        try await Task.sleep(for: .milliseconds(20))
                        (kept, told) = (before.intersection(try await list()).count, errors.with { $0 })
                    }
                    try Chaos.require(kept == effect.keeps, "\(fault) left \(kept) connections")
                    try Chaos.require(effect.isTold(by: told), "\(fault): the channels were told \(told)")
                }
            ],
            faults: faults,
            timeout: .seconds(180),
            ready: { _ in _ = try await list() }
        ) {
            let pool = AMQPPool(configuration: try Services.pool(url), logger: Services.quiet) { channel in
                channel.onClosed { error in errors.with { $0.append("\(error)") } }
            }
            return Supervisor("app", logger: Services.quiet) { pool.supervisor }
        }
        try await chaos.eachFault()
    }
}

/// Does nothing.
private actor Nobody {}
