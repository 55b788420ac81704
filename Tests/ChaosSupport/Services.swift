import AMQPPool
import Logging
import RPCCaller
import RPCReceiver
import Supervision
import SupervisionTesting

/// The caller "shop" and the receiver "math".
package enum Services {
    package static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
    package static let backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(500), jitter: 1)
    /// What storms need: nobody gives up because much happens.
    package static let patience = RestartIntensity(100_000, within: .seconds(1))

    package static func caller(
        _ url: String,
        intensity: RestartIntensity? = nil,
        on pool: AMQPPool? = nil
    ) throws -> RPCCaller {
        var configuration = RPCCallerConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.pool = try Self.pool(url)
        configuration.timeout = .seconds(60)
        // Its calls may be held up for ever when the root is asked to end.
        configuration.drainTimeout = .seconds(3)
        if let intensity { configuration.intensity = intensity }
        if let pool { return RPCCaller(service: "shop", on: pool, configuration: configuration, logger: quiet) }
        return RPCCaller(service: "shop", configuration: configuration, logger: quiet)
    }

    package static func receiver(
        _ url: String,
        intensity: RestartIntensity? = nil,
        on pool: AMQPPool? = nil,
        @RPCHandlersBuilder procedures: () -> [RPCHandler]
    ) throws -> RPCReceiver {
        var configuration = RPCReceiverConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.pool = try Self.pool(url)
        configuration.concurrency = 400
        // Handlers are held up when the root is asked to end.
        configuration.drainTimeout = .seconds(3)
        if let intensity { configuration.intensity = intensity }
        let procedures = RPCHandlers(procedures)
        if let pool {
            return RPCReceiver(
                service: "math",
                on: pool,
                configuration: configuration,
                logger: quiet,
                procedures: procedures
            )
        }
        return RPCReceiver(service: "math", configuration: configuration, logger: quiet, procedures: procedures)
    }

    /// The settings of a pool on a busy machine.
    package static func pool(_ url: String) throws -> PoolConfiguration {
        var pool = PoolConfiguration(endpoints: [try Endpoint(url: url)])
        pool.backoff = backoff
        pool.killTimeout = .seconds(3)
        pool.connection.connectTimeout = .seconds(60)
        pool.connection.operationTimeout = .seconds(60)
        pool.connection.closeTimeout = .seconds(30)
        return pool
    }

    /// `add`, and `hold`, whose handlers wait at the gates.
    @RPCHandlersBuilder
    package static func procedures(_ gates: Gates) -> [RPCHandler] {
        RPCHandler("add") { (numbers: [Int], _) in numbers.reduce(0, +) }
        RPCHandler("hold") { (n: Int, _) in
            try await gates.pass()
            return n
        }
    }
}
