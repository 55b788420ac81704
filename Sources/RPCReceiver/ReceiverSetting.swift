#if Configuration
public import AMQPPool
public import Configuration
#else
import AMQPPool
#endif

/// The settings of a receiver that the configuration of a process can carry, beside those of its pool.
/// `docs/operations/configuration.md` lists them, and a test compares.
package enum ReceiverSetting: String, Setting {
    case concurrency
    case queueType = "queue.type"
    case handlerTimeLimit = "handler.time.limit"
    case deliveryLimit = "delivery.limit"
    case drainTimeout = "receiver.drain.timeout"
    case describesItself = "describes.itself"
    case exposesErrors = "exposes.errors"
}

extension RPCReceiverConfiguration {
    package init(_ values: SettingValues) throws(SettingError) {
        let pool = try PoolConfiguration(values)
        self.init(endpoints: pool.endpoints, pool: pool)
        try read(values)
    }

    /// What does not concern connections.
    package mutating func read(_ values: SettingValues) throws(SettingError) {
        typealias Key = ReceiverSetting
        if let value = try values.int(Key.concurrency, in: 1...65_535) { concurrency = value }
        if let value = try values.word(Key.queueType, ["quorum": "quorum", "classic": "classic"]) {
            queueArguments["x-queue-type"] = .string(value)
        }
        if let value = try values.duration(Key.handlerTimeLimit) { handlerTimeLimit = value }
        if let value = try values.int(Key.deliveryLimit, in: 1...Int(Int32.max)) { deliveryLimit = value }
        if let value = try values.duration(Key.drainTimeout) { drainTimeout = value }
        if let value = try values.bool(Key.describesItself) { describesItself = value }
        if let value = try values.bool(Key.exposesErrors) { exposesErrors = value }
    }
}

#if Configuration
extension RPCReceiverConfiguration {
    /// The settings that a configuration has, and the defaults for the others.
    ///
    ///     let config = ConfigReader(provider: EnvironmentVariablesProvider())
    ///     let configuration = try RPCReceiverConfiguration(config.scoped(to: "rpc"))
    ///
    /// `docs/operations/configuration.md` lists the keys: `RPC_ENDPOINTS` and the others in the environment. Secrets are read as such, and
    /// are in no error.
    ///
    /// - Throws: `SettingError` for what is missing or cannot be read.
    public init(_ config: ConfigReader) throws(SettingError) {
        try self.init(SettingValues(config))
    }

    /// The same for a receiver on a pool that others share: whose endpoints and connections are the pool's.
    public init(onSharedPool config: ConfigReader) throws(SettingError) {
        self.init()
        try read(SettingValues(config))
    }
}
#endif
