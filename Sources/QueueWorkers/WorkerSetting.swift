#if Configuration
public import AMQPPool
public import Configuration
#else
import AMQPPool
#endif

/// The settings of a worker that can be read from the configuration of the process. A test compares them with
/// `docs/operations/configuration.md`.
package enum WorkerSetting: String, Setting {
    case concurrency
    case prefetch
    case handlerTimeLimit = "handler.time.limit"
    case deliveryLimit = "delivery.limit"
    case drainTimeout = "drain.timeout"
}

extension WorkerConfiguration: SettingReadable {
    package static var defaults: Self { Self() }

    package mutating func read(_ values: SettingValues) throws(SettingError) {
        typealias Key = WorkerSetting
        if let value = try values.int(Key.concurrency, in: 1...65_535) { concurrency = value }
        if let value = try values.int(Key.prefetch, in: 1...65_535) { prefetch = UInt16(clamping: value) }
        if let value = try values.duration(Key.handlerTimeLimit) { handlerTimeLimit = value }
        if let value = try values.int(Key.deliveryLimit, in: 1...Int(Int32.max)) { deliveryLimit = value }
        if let value = try values.duration(Key.drainTimeout) { drainTimeout = value }
    }
}

#if Configuration
extension WorkerConfiguration {
    /// Reads settings from a configuration, with defaults for absent ones.
    ///
    ///     let configuration = try WorkerConfiguration(config.scoped(to: "orders"))   // ORDERS_CONCURRENCY, ...
    ///
    /// `docs/operations/configuration.md` lists the keys.
    ///
    /// - Throws: `SettingError` for an invalid setting.
    public init(_ config: ConfigReader) throws(SettingError) {
        try self.init(withoutPool: SettingValues(config))
    }
}
#endif
