import AMQPPool
import AMQPTesting
import BrokerSupport
import Logging
import NIOCore
import Supervision
import Synchronization
import Testing

// snippet.ledger
/// The handled orders, which the tests observe.
final class Orders: Sendable {
    private let handled = Mutex<Set<String>>([])

    func handle(_ order: String) { handled.withLock { _ = $0.insert(order) } }

    /// Waits until an order has been handled.
    func wait(for order: String) async throws {
        for _ in 0..<2000 {
            if handled.withLock({ $0.contains(order) }) { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        throw Chaos.Invariant.Violation("the order \(order) is not handled")
    }
}
// snippet.end

// snippet.place
/// Places an order like a customer: repeats it if the outcome is unknown.
func place(_ order: String, _ pool: AMQPPool) async throws {
    for _ in 0..<5 {
        do {
            return try await pool.publish(ByteBuffer(string: order), routingKey: "orders", mandatory: true)
        } catch AMQPError.unconfirmed {
            continue
        }
    }
    throw Chaos.Invariant.Violation("the order \(order) cannot be placed")
}
// snippet.end

// snippet.clerk
/// Handles orders.
actor Clerk: Worker {
    private let pool: AMQPPool
    private let orders: Orders
    private let stop: StopRequest

    init(_ context: ChildContext, _ pool: AMQPPool, _ orders: Orders) {
        (self.pool, self.orders, stop) = (pool, orders, context.stopRequest)
    }

    func run() async throws {
        try await pool.withChannel { [orders] channel in
            try await channel.declareQueue("orders", durable: true)
            try await channel.consume(queue: "orders", noAck: true) { orders.handle(String(buffer: $0.body)) }
        }
        await stop.wait()
    }
}
// snippet.end

// snippet.naive
func naiveShop(_ pool: AMQPPool, _ orders: Orders) -> Supervisor {
    Supervisor("shop", strategy: .restForOne, logger: silent) {
        pool.supervisor
        Child("clerk") { context in Clerk(context, pool, orders) }
    }
}
// snippet.end

// snippet.better
func shop(_ pool: AMQPPool, _ orders: Orders) -> Supervisor {
    Supervisor("shop", strategy: .restForOne, intensity: .init(100, within: .seconds(5)), logger: silent) {
        pool.supervisor
        Child.consumer("clerk", of: "orders", on: pool) { channel in
            try await channel.declareQueue("orders", durable: true)
        } handler: { delivery in
            orders.handle(String(buffer: delivery.body))
        }
    }
}
// snippet.end

@Suite("The tutorial of faults around AMQP trees", .timeLimit(.minutes(5)))
struct BrokerChaosTutorial {
    /// Any broker of the tutorial is a virtual host of the tests' own.
    private static func chaos(
        _ broker: LocalBroker,
        _ proxy: FaultProxy,
        _ virtualHost: String,
        _ tree: @escaping @Sendable (AMQPPool, Orders) -> Supervisor
    ) throws -> Chaos {
        let url = proxy.url(virtualHost: virtualHost)
        // snippet.chaos
        let orders = Orders()
        let pool = AMQPPool(endpoints: [try Endpoint(url: url)])
        let number = Atomic(0)
        let everyOrder = Chaos.Invariant("every order is handled") { _ in
            let order = "\(number.add(1, ordering: .relaxed).newValue)"
            try await place(order, pool)
            try await orders.wait(for: order)
        }
        let faults =
            Chaos.Fault.network(proxy, for: .milliseconds(200)) + [
                .connectionClosed(broker, virtualHost: virtualHost),
                .connectionDropped(broker, virtualHost: virtualHost),
                .channelClosed(broker, virtualHost: virtualHost),
            ]
        let chaos = Chaos(
            invariants: [everyOrder],
            faults: faults,
            ready: { _ in try await pool.waitUntilReady() }
        ) {
            tree(pool, orders)
        }
        // snippet.end
        return chaos
    }

    @Test("finds what the naive tree does not survive")
    func naive() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let chaos = try Self.chaos(broker, proxy, virtualHost, naiveShop)
            let failure = await #expect(throws: Chaos.Failure.self) {
                // snippet.naive-run
                try await chaos.replay("outside channel-closed; outside channel-closed")
                // snippet.end
            }
            let text = "\(try #require(failure))"
            #expect(text.contains("every order is handled"), "\(text)")
            await proxy.shutdown()
        }
    }

    @Test("shows a tree that survives")
    func better() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let chaos = try Self.chaos(broker, proxy, virtualHost, shop)
            // snippet.better-run
            try await chaos.eachFault()
            try await chaos.pairs([.kill], sample: 10)
            try await chaos.storm(kills: 20, pace: .settled, weights: [.kill: 1, .crash: 1], expecting: .survives)
            // snippet.end
            await proxy.shutdown()
        }
    }
}
