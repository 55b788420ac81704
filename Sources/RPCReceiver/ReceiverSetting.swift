#if Configuration
public import AMQPPool
public import Configuration
#else
import AMQPPool
#endif

/// The settings of a receiver that can be read from the configuration of the process, besides those of its pool. A test compares them with
/// `docs/operations/configuration.md`.
package enum ReceiverSetting: String, Setting {
    case concurrency
    case queueType = "queue.type"
    case handlerTimeLimit = "handler.time.limit"
    case deliveryLimit = "delivery.limit"
    case drainTimeout = "receiver.drain.timeout"
    case describesItself = "describes.itself"
    case exposesErrors = "exposes.errors"
}

extension RPCReceiverConfiguration: PoolSettingReadable {
    package static var defaults: Self { Self() }

    /// Reads the settings other than those of connections.
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
    /// Reads settings from a configuration, with defaults for absent ones.
    ///
    ///     let config = ConfigReader(provider: EnvironmentVariablesProvider())
    ///     let configuration = try RPCReceiverConfiguration(config.scoped(to: "rpc"))
    ///
    /// `docs/operations/configuration.md` lists the keys, in the environment `RPC_ENDPOINTS` and so on. Secrets are read as secrets, and
    /// are in no error.
    ///
    /// - Throws: `SettingError` for a missing or invalid setting.
    public init(_ config: ConfigReader) throws(SettingError) {
        try self.init(SettingValues(config))
    }

    /// Reads settings for a receiver on a shared pool, which has its own endpoints and connections.
    public init(onSharedPool config: ConfigReader) throws(SettingError) {
        try self.init(withoutPool: SettingValues(config))
    }
}
#endif
