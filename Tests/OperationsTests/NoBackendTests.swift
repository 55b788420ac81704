import Testing

@testable import AMQPPool
@testable import RPCCaller
@testable import RPCReceiver
@testable import Supervision

/// What has no backend has no counter, no timer, no label and no interceptor: a comparison with `nil` is all that is left.
@Suite("Without a backend nothing is measured and nothing traced")
struct NoBackendTests {
    private static let endpoints: [Endpoint] = ["amqp://127.0.0.1"]

    @Test("A pool, and what consumes on it")
    func pool() {
        let pool = AMQPPool(endpoints: Self.endpoints)
        #expect(pool.metrics == nil)
        #expect(pool.instruments == nil)
        #expect(pool.configuration.connection.metrics == nil)
        #expect(ConsumerMetrics(queue: "orders") == nil)
    }

    @Test("A caller and a receiver")
    func calls() {
        let caller = RPCCaller(service: "checkout", endpoints: Self.endpoints)
        #expect(caller.counters.metrics == nil)
        #expect(caller.interceptors.isEmpty)
        #expect(RPCReceiver(service: "math", endpoints: Self.endpoints) {}.counters.metrics == nil)
    }

    @Test("A tree")
    func tree() {
        #expect(SupervisionMetrics(tree: "app") == nil)
    }
}
