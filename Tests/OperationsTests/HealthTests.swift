import AMQPPool
import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import QueueWorkers
import RPCCaller
import RPCReceiver
import Supervision
import Testing

@Suite("The health of a process")
struct HealthTests {
    private static func configuration(_ url: String) throws -> PoolConfiguration {
        var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.backoff = Backoff(minimum: .milliseconds(50), maximum: .milliseconds(200), jitter: 0)
        return configuration
    }

    @Test("it is live in an outage, and not ready, with what was tried; ready again after it; live while it stops")
    func outage() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let pool = AMQPPool(configuration: try Self.configuration(proxy.url(virtualHost: virtualHost)))
            let rpc = RPCCaller(service: "checkout", on: pool)
            let receiver = RPCReceiver(service: "math", on: pool, procedures: RPCHandlers {})
            let app = Supervisor("app", strategy: .restForOne) {
                pool.supervisor
                rpc.supervisor
                receiver.supervisor
            }
            func health() -> Health { Health(of: app, pool, rpc, receiver) }
            #expect(health().isLive && !health().isReady)
            #expect(health().parts.map(\.name) == ["app", "amqp-pool", "caller", "receiver"])
            try await app.start()
            try await LiveWait.until { health().isReady }
            #expect(health().whyNot.isEmpty)
            #expect("\(health())" == "ready")
            #expect(pool.connections.allSatisfy { $0.broker.product == "RabbitMQ" && $0.broker.heartbeat > .zero })
            try await proxy.setNewConnections(.refused)
            await proxy.cut()
            try await LiveWait.until { health().whyNot.joined().contains("connection re") }
            #expect(health().isLive && !health().isReady)
            #expect(pool.state == .connecting && rpc.state == .connecting && receiver.state == .connecting)
            #expect(!pool.isReady && !rpc.isReady && !receiver.isReady)
            try await proxy.setNewConnections(.accepted)
            try await LiveWait.until { health().isReady }
            await app.stop()
            #expect(health().isLive && !health().isReady)
            await proxy.shutdown()
        }
    }

    @Test("a tree that gave up is not live, and says why; started again, it is")
    func gaveUp() async throws {
        struct Broken: Error {}
        actor Crasher: Worker {
            func run() async throws { throw Broken() }
        }
        actor Idle {}
        let app = Supervisor("app", intensity: .init(0, within: .seconds(1))) {
            Child("crasher") { _ in Crasher() }
        }
        await #expect(throws: (any Error).self) { try await app.run() }
        #expect(!app.health.isLive)
        #expect(app.health.why?.contains("gave up") == true)
        let good = Supervisor("good") { Child("idle") { _ in Idle() } }
        try await good.start()
        #expect(good.health.isReady)
        await good.stop()
        #expect(good.health.isLive && !good.health.isReady)
    }

    @Test("it can be sent as JSON, and read again")
    func json() throws {
        let health = Health([.ready("pool"), .notReady("caller", why: "not connected"), .dead("app", why: "gave up")])
        let data = try JSONEncoder().encode(health)
        #expect(try JSONDecoder().decode(Health.self, from: data) == health)
        #expect("\(health)" == "not live: caller: not connected; app: gave up")
    }

    @Test("a consumer says whether its queue is consumed, and if not, why; it stops until its handlers have ended")
    func consumer() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var configuration = ConsumerConfiguration()
            configuration.reopenBackoff = Backoff(minimum: .milliseconds(20), maximum: .milliseconds(50), jitter: 0)
            let (begun, begin) = AsyncStream.makeStream(of: Void.self)
            let (mayEnd, end) = AsyncStream.makeStream(of: Void.self)
            let pool = AMQPPool(configuration: try Self.configuration(url))
            let app = Supervisor("app") {
                pool.supervisor
                Child.consumer("orders", of: "orders", on: pool, configuration: configuration) { _ in
                    begin.finish()
                    for await _ in mayEnd {}
                }
            }
            try await app.start()
            let consumer = try app.child("orders", as: Consumer.self).resolve()
            try await LiveWait.until { consumer.health.why?.contains("no queue 'orders'") == true }
            #expect(consumer.state == .waiting && !consumer.isReady && consumer.health.isLive)
            try await broker.declareQueue("orders", virtualHost: virtualHost)
            try await LiveWait.until { consumer.state == .consuming }
            #expect(consumer.health == .ready("app/orders"))
            try await broker.deleteQueue("orders", virtualHost: virtualHost)
            try await LiveWait.until { consumer.state == .waiting }
            try await broker.declareQueue("orders", virtualHost: virtualHost)
            try await LiveWait.until { consumer.isReady }
            try await pool.publish(ByteBuffer(), routingKey: "orders", mandatory: true)
            for await _ in begun {}
            let stop = Task { await app.stop() }
            try await LiveWait.until { consumer.state == .stopping }
            #expect(consumer.health == .notReady("app/orders", why: "stopping"))
            end.finish()
            _ = await stop.value
        }
    }

    @Test("no credential is in it")
    func noCredential() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let pool = AMQPPool(
                configuration: try Self.configuration("amqp://guest:sesame@127.0.0.1:\(broker.port)/\(virtualHost)")
            )
            try await pool.start()
            try await LiveWait.until { pool.health.why?.contains("refused the credentials") == true }
            #expect(!"\(pool.health)".contains("sesame"))
            await pool.stop()
        }
    }

    @Test("a process that is to fail when it is refused does, with the refusal; by default it keeps trying")
    func bootPolicy() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let port = broker.port
            func failure(_ urls: [String]) async throws -> AMQPError? {
                var configuration = PoolConfiguration(endpoints: try urls.map { try Endpoint(url: $0) })
                configuration.boot = .failWhenRefused
                configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(20), jitter: 0)
                let pool = AMQPPool(configuration: configuration)
                do {
                    try await pool.run()
                    return nil
                } catch {
                    #expect(!pool.health.isLive)
                    return error as? AMQPError
                }
            }
            let password = "amqp://guest:wrong@127.0.0.1:\(port)/\(virtualHost)"
            guard case .authenticationFailed = try await failure([password]) else {
                Issue.record("not the refusal")
                return
            }
            guard case .virtualHostRefused = try await failure(["amqp://guest:guest@127.0.0.1:\(port)/nowhere"]) else {
                Issue.record("not the refusal")
                return
            }
            // One that is down beside one that refuses.
            let closed = try ClosedPort()
            guard case .authenticationFailed = try await failure(["amqp://127.0.0.1:\(closed.number)", password]) else {
                Issue.record("not the refusal")
                return
            }
            // One that refuses beside one that works: it works.
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: password), try Endpoint(url: url)])
            configuration.boot = .failWhenRefused
            configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(20), jitter: 0)
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await LiveWait.until { pool.connections.count == 2 }
            await pool.stop()
            // Of a caller and a receiver too.
            var calling = RPCCallerConfiguration(endpoints: [try Endpoint(url: password)])
            calling.pool.boot = .failWhenRefused
            let rpc = RPCCaller(service: "checkout", configuration: calling)
            await #expect(throws: AMQPError.self) { try await rpc.run() }
            var answering = RPCReceiverConfiguration(endpoints: [try Endpoint(url: password)])
            answering.pool.boot = .failWhenRefused
            let receiver = RPCReceiver(service: "math", configuration: answering, procedures: RPCHandlers {})
            await #expect(throws: AMQPError.self) { try await receiver.run() }
        }
    }
}
