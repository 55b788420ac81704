import AMQPPool
import BrokerSupport
import InMemoryTracing
import LocalBroker
import Logging
import MetricsTestKit
import NIOCore
import QueueWorkers
import Supervision
import Testing
import Tracing

@Suite("What pools, consumers and workers measure and trace")
struct MeasuringTests {
    private static func configuration(
        _ url: String,
        _ metrics: TestMetrics,
        _ tracer: InMemoryTracer? = nil
    ) throws -> PoolConfiguration {
        var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.backoff = Backoff(minimum: .milliseconds(50), maximum: .milliseconds(200), jitter: 0)
        configuration.connection.operationTimeout = .seconds(60)
        configuration.metricsFactory = metrics
        configuration.tracing = tracer.map { .tracer($0) } ?? .disabled
        return configuration
    }

    private static let pool = [("messaging.system", "rabbitmq"), ("pool", "amqp-pool")]

    private static func sent(_ destination: String, _ outcome: String) -> [(String, String)] {
        pool + [
            ("messaging.destination.name", destination), ("messaging.operation.name", "publish"), ("outcome", outcome),
        ]
    }

    @Test("publishing: how long until the outcome and the confirm, how many by outcome, returned ones")
    func publishing() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let metrics = TestMetrics()
            let pool = AMQPPool(configuration: try Self.configuration(url, metrics)) { channel in
                try await channel.declareQueue("orders", durable: true)
            }
            try await pool.start()
            for _ in 0..<3 { try await pool.publish(ByteBuffer(string: "m"), routingKey: "orders") }
            await #expect(throws: AMQPError.self) {
                try await pool.publish(ByteBuffer(string: "m"), routingKey: "nowhere", mandatory: true)
            }
            try await pool.withChannel { try await $0.publish(ByteBuffer(string: "m"), routingKey: "orders") }
            let name = AMQPMetricName.self
            #expect(try metrics.expectCounter(name.sent.rawValue, Self.sent("orders", "confirmed")).totalValue == 4)
            #expect(
                try metrics.expectTimer(name.operationDuration.rawValue, Self.sent("orders", "confirmed")).values.count
                    == 4
            )
            #expect(try metrics.expectCounter(name.sent.rawValue, Self.sent("nowhere", "returned")).totalValue == 1)
            #expect(try metrics.expectCounter(name.returned.rawValue, Self.pool).totalValue == 1)
            #expect(try metrics.expectTimer(name.confirmDuration.rawValue, Self.pool).values.count == 5)
            #expect(try metrics.expectMeter(name.unconfirmed.rawValue, Self.pool).lastValue == 0)
            await pool.stop()
            await #expect(throws: AMQPError.self) {
                try await pool.publish(ByteBuffer(string: "m"), routingKey: "orders", timeout: .milliseconds(1))
            }
            #expect(try metrics.expectCounter(name.sent.rawValue, Self.sent("orders", "not_sent")).totalValue == 1)
        }
    }

    @Test("connections: connected, how many, channels, reconnects, failed attempts by reason, blocked")
    func connections() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let metrics = TestMetrics()
            let proxy = try await FaultProxy.start(to: broker)
            let pool = AMQPPool(configuration: try Self.configuration(proxy.url(virtualHost: virtualHost), metrics))
            let name = AMQPMetricName.self
            func meter(_ name: AMQPMetricName) -> Double {
                ((try? metrics.expectMeter(name.rawValue, Self.pool))?.lastValue).flatMap { $0 } ?? -1
            }
            #expect(meter(.connected) == 0)
            try await pool.start()
            try await LiveWait.until { meter(.connections) == 2 && meter(.channels) == 2 && meter(.connected) == 1 }
            #expect(meter(.blocked) == 0)
            try await proxy.setNewConnections(.refused)
            await proxy.cut()
            try await LiveWait.until { meter(.connected) == 0 && meter(.connections) == 0 && meter(.channels) == 0 }
            let failed = Self.pool + [("reason", "connect")]
            try await LiveWait.until { (try? metrics.expectCounter(name.connectFailures.rawValue, failed)) != nil }
            try await proxy.setNewConnections(.accepted)
            try await LiveWait.until { meter(.connections) == 2 && meter(.connected) == 1 }
            #expect(try metrics.expectCounter(name.reconnects.rawValue, Self.pool).totalValue == 2)
            await pool.stop()
            #expect(meter(.connected) == 0 && meter(.connections) == 0 && meter(.channels) == 0)
            await proxy.shutdown()
        }
    }

    @Test(
        "handling: consumed, by outcome, in flight, prefetch; and one trace from the publisher over the queue to what the handler publishes"
    )
    func handling() async throws {
        struct Broken: Error {}
        struct Order: Codable, Sendable { var number: Int }
        try await TestBroker.withVirtualHost { _, url, _ in
            let (metrics, tracer) = (TestMetrics(), InMemoryTracer())
            let pool = AMQPPool(configuration: try Self.configuration(url, metrics, tracer)) { channel in
                try await channel.declareQueue("second", durable: true)
                try await channel.declareQueue("first", durable: true)
            }
            var consuming = ConsumerConfiguration()
            consuming.prefetch = 7
            consuming.onFailure = .reject
            let settings = consuming
            let ended = Signal()
            let app = Supervisor("app", strategy: .restForOne) {
                pool.supervisor
                Child("first") { context in
                    Consumer(context, of: "first", on: pool, configuration: settings) { delivery in
                        if delivery.body.readableBytes == 1 { throw Broken() }
                        try await pool.publish(ByteBuffer(string: "2"), routingKey: "second")
                    }
                }
                Child("second") { context in
                    Consumer(context, of: "second", on: pool) { _ in ended.fire() }
                }
            }
            try await app.start()
            let root = tracer.startSpan("request", context: .topLevel, ofKind: .server)
            try await ServiceContext.$current.withValue(root.context) {
                try await pool.publish(ByteBuffer(string: "x"), routingKey: "first")
                try await pool.publish(ByteBuffer(string: "message"), routingKey: "first")
            }
            root.end()
            await ended.wait()
            func dimensions(_ queue: String, _ outcome: String? = nil) -> [(String, String)] {
                [("messaging.system", "rabbitmq"), ("messaging.destination.name", queue)]
                    + (outcome.map { [("outcome", $0)] } ?? [])
            }
            let name = AMQPMetricName.self
            func handled(_ queue: String, _ outcome: String) -> Int {
                (try? metrics.expectTimer(name.processDuration.rawValue, dimensions(queue, outcome)))?.values.count ?? 0
            }
            try await LiveWait.until {
                handled("first", "success") == 1 && handled("first", "reject") == 1 && handled("second", "success") == 1
            }
            #expect(try metrics.expectCounter(name.consumed.rawValue, dimensions("first")).totalValue == 2)
            #expect(try metrics.expectMeter(name.processInFlight.rawValue, dimensions("first")).lastValue == 0)
            #expect(try metrics.expectMeter(name.prefetch.rawValue, dimensions("first")).lastValue == 7)
            await app.stop()
            let spans = tracer.finishedSpans
            #expect(Set(spans.map(\.traceID)).count == 1, "\(spans.map { "\($0.operationName) \($0.traceID)" })")
            #expect(
                spans.map(\.operationName).sorted() == [
                    "process first", "process first", "process second", "publish first", "publish first",
                    "publish second", "request",
                ]
            )
            let failed = spans.filter { !$0.errors.isEmpty || $0.status?.code == .error }
            #expect(failed.map(\.operationName) == ["process first"])
        }
    }
}
