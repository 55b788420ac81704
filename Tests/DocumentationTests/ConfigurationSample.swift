#if Configuration
import AMQPPool
import Configuration
import QueueWorkers
import RPCCaller
import RPCReceiver
import Testing

@Suite("Configuration from swift-configuration")
struct ConfigurationSample {
    @Test("the sample of docs/operations/configuration.md reads what the environment has")
    func sample() throws {
        let environment = [
            "RPC_ENDPOINTS": "amqp://a,amqp://b", "RPC_CONNECT_TIMEOUT": "3s", "AMQP_ENDPOINTS": "amqp://c",
            "ORDERS_CONCURRENCY": "4", "RPC_CONNECTIONS": "1",
        ]
        // snippet.configuration
        let config = ConfigReader(
            provider: EnvironmentVariablesProvider(
                // snippet.hide
                environmentVariables: environment,
                // snippet.show
                secretsSpecifier: .specific(["RPC_ENDPOINTS", "RPC_PASSWORD", "AMQP_ENDPOINTS"])
            )
        )
        let rpc = config.scoped(to: "rpc")
        let caller = try RPCCallerConfiguration(rpc)
        let receiver = try RPCReceiverConfiguration(rpc)
        let pool = try PoolConfiguration(config.scoped(to: "amqp"))
        let orders = try WorkerConfiguration(config.scoped(to: "orders"))
        // snippet.end
        #expect(caller.pool.endpoints.map(\.host) == ["a", "b"])
        #expect(caller.pool.connection.connectTimeout == .seconds(3))
        #expect(receiver.pool.connections == 1)
        #expect(pool.endpoints.map(\.host) == ["c"])
        #expect(orders.concurrency == 4)
    }
}
#endif
