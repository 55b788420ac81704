import AMQPPool
import BrokerSupport
import LocalBroker
import QueueWorkers
import Supervision
import Testing

@Suite("The order of a key", .timeLimit(.minutes(5)))
struct WorkerOrderTests {
    private static var configuration: WorkerConfiguration {
        var configuration = WorkerConfiguration()
        configuration.prefetch = 20
        return configuration
    }

    /// The numbers that were begun, each time.
    private static func worker(
        on pool: AMQPPool,
        _ begun: Record<Int>,
        _ gate: Gate,
        failing: Bool,
        _ configuration: WorkerConfiguration = configuration
    ) -> Child {
        Child.worker(
            of: Order.self,
            from: "orders",
            on: pool,
            retry: .after([.milliseconds(10)]),
            configuration: configuration,
            orderedBy: { $0.customer }
        ) { order, context in
            begun.append(order.number)
            guard order.number == 1 else { return }
            await gate.wait()
            let isFirst = begun.values.filter { $0 == 1 }.count == 1
            if failing, isFirst { throw Broken() }
        }
    }

    private static func waitUntilAllAreHere(_ count: Int, _ shop: Shop) async throws {
        try await eventually("all are here") { try await shop.worker.unsettled == count }
    }

    /// Waits until the last was begun, and nothing is here any more.
    private static func waitUntilAllAreHandled(_ begun: Record<Int>, _ shop: Shop) async throws {
        try await eventually("all are handled") {
            guard begun.values.contains(12) else { return false }
            return try await shop.worker.unsettled == 0
        }
    }

    @Test(
        "is kept when the worker is paused and resumed while a message runs, and fails or not",
        arguments: [false, true]
    )
    func pause(_ failing: Bool) async throws {
        let begun = Record<Int>()
        let gate = Gate()
        try await Shop.run { pool in
            Self.worker(on: pool, begun, gate, failing: failing)
        } _: { shop in
            try await shop.publish(numbers: 1...12)
            try await Self.waitUntilAllAreHere(12, shop)
            let worker = try shop.worker
            await worker.pause()
            gate.open()
            try await eventually("nothing is left here") { await worker.unsettled == 0 }
            await worker.resume()
            try await Self.waitUntilAllAreHandled(begun, shop)
        }
        #expect(begun.values == (failing ? [1] : []) + Array(1...12))
    }

    @Test(
        "is kept when the worker is stopped while a message runs, and fails or not, and then another goes on",
        arguments: [WorkerConfiguration.AtStop.giveBack, .finish],
        [false, true]
    )
    func stop(_ atStop: WorkerConfiguration.AtStop, _ failing: Bool) async throws {
        let begun = Record<Int>()
        let gate = Gate()
        var configuration = Self.configuration
        configuration.atStop = atStop
        try await TestBroker.withVirtualHost { [configuration] broker, url, virtualHost in
            func start() async throws -> Shop {
                let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
                let root = Supervisor("shop") {
                    pool.supervisor
                    Self.worker(on: pool, begun, gate, failing: failing, configuration)
                }
                try await root.start()
                return Shop(pool: pool, root: root, broker: broker, virtualHost: virtualHost)
            }
            let first = try await start()
            try await first.publish(numbers: 1...12)
            try await Self.waitUntilAllAreHere(12, first)
            let worker = try first.worker
            let stopping = Task { _ = await first.root.stop() }
            try await eventually("it stops") { worker.state == .stopping }
            gate.open()
            await stopping.value
            let second = try await start()
            try await Self.waitUntilAllAreHandled(begun, second)
            _ = await second.root.stop()
        }
        #expect(begun.values == (failing ? [1] : []) + Array(1...12))
    }

    @Test(
        "is kept when one of several workers of a queue with a single active consumer is stopped",
        arguments: [false, true]
    )
    func handOver(_ failing: Bool) async throws {
        let begun = Record<Int>()
        let gate = Gate()
        var configuration = Self.configuration
        configuration.prefetch = 5
        try await TestBroker.withVirtualHost { [configuration] broker, url, virtualHost in
            func start(_ name: String) async throws -> Shop {
                let pool = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
                let root = Supervisor(name) {
                    pool.supervisor
                    Self.worker(on: pool, begun, gate, failing: failing, configuration)
                }
                try await root.start()
                return Shop(pool: pool, root: root, broker: broker, virtualHost: virtualHost)
            }
            let declaring = AMQPPool(endpoints: [try Endpoint(url: url)], connections: 1)
            try await declaring.start()
            try await declaring.withDedicatedChannel(timeout: .seconds(60)) { channel in
                var arguments = QueueArguments(type: .quorum)
                arguments.singleActiveConsumer = true
                _ = try await channel.declareQueue("orders", arguments: arguments)
            }
            await declaring.stop()
            let first = try await start("one")
            try await first.publish(numbers: 1...12)
            try await Self.waitUntilAllAreHere(5, first)
            let second = try await start("two")
            let other = try second.worker
            try await eventually("the other waits for its turn") { other.state == .consuming }
            let worker = try first.worker
            let stopping = Task { _ = await first.root.stop() }
            try await eventually("it stops") { worker.state == .stopping }
            gate.open()
            await stopping.value
            try await Self.waitUntilAllAreHandled(begun, second)
            _ = await second.root.stop()
        }
        #expect(begun.values == (failing ? [1] : []) + Array(1...12))
    }
}
