import AMQPPool
import RPCCaller
import RPCReceiver
import Testing

@Suite("The endpoints of a configuration")
struct EndpointsTests {
    @Test("are those that are given, or else those of the pool")
    func endpoints() throws {
        let ours = try Endpoint(url: "amqp://ours")
        let theirs = PoolConfiguration(endpoints: [try Endpoint(url: "amqp://theirs")])
        #expect(RPCCallerConfiguration(pool: theirs).pool.endpoints.map(\.host) == ["theirs"])
        #expect(RPCCallerConfiguration(endpoints: [ours], pool: theirs).pool.endpoints.map(\.host) == ["ours"])
        #expect(RPCCallerConfiguration(endpoints: [ours]).pool.endpoints.map(\.host) == ["ours"])
        #expect(RPCCallerConfiguration().pool.endpoints.isEmpty)
        #expect(RPCReceiverConfiguration(pool: theirs).pool.endpoints.map(\.host) == ["theirs"])
        #expect(RPCReceiverConfiguration(endpoints: [ours], pool: theirs).pool.endpoints.map(\.host) == ["ours"])
        #expect(RPCReceiverConfiguration(endpoints: [ours]).pool.endpoints.map(\.host) == ["ours"])
        #expect(RPCReceiverConfiguration().pool.endpoints.isEmpty)
    }
}
