#if Configuration
public import AMQPPool
public import Configuration
#else
import AMQPPool
#endif

/// The settings of a caller that can be read from the configuration of the process, besides those of its pool. A test compares them with
/// `docs/operations/configuration.md`.
package enum CallerSetting: String, Setting {
    case timeout
    case maximumCallsInFlight = "maximum.calls.in.flight"
    case whenNobodyServes = "when.nobody.serves"
    case replies
    case confirms
    case drainTimeout = "caller.drain.timeout"
}

extension RPCCallerConfiguration: PoolSettingReadable {
    package static var defaults: Self { Self() }

    /// Reads the settings other than those of connections.
    package mutating func read(_ values: SettingValues) throws(SettingError) {
        typealias Key = CallerSetting
        if let value = try values.duration(Key.timeout) { timeout = value }
        if let value = try values.int(Key.maximumCallsInFlight, in: 1...Int(Int32.max)) { maximumCallsInFlight = value }
        if let value = try values.word(
            Key.whenNobodyServes,
            ["wait": WhenNobodyServes.wait, "fail-at-once": .failAtOnce]
        ) {
            whenNobodyServes = value
        }
        if let value = try values.word(Key.replies, ["queue": RPCReplies.queue, "direct": .direct]) { replies = value }
        if let value = try values.bool(Key.confirms) { confirms = value }
        if let value = try values.duration(Key.drainTimeout) { drainTimeout = value }
    }
}

#if Configuration
extension RPCCallerConfiguration {
    /// Reads settings from a configuration, with defaults for absent ones.
    ///
    ///     let config = ConfigReader(provider: EnvironmentVariablesProvider())
    ///     let rpc = RPCCaller(service: "checkout", configuration: try RPCCallerConfiguration(config.scoped(to: "rpc")))
    ///
    /// `docs/operations/configuration.md` lists the keys, in the environment `RPC_ENDPOINTS` and so on. Secrets are read as secrets, and
    /// are in no error.
    ///
    /// - Throws: `SettingError` for a missing or invalid setting.
    public init(_ config: ConfigReader) throws(SettingError) {
        try self.init(SettingValues(config))
    }

    /// Reads settings for a caller on a shared pool, which has its own endpoints and connections.
    public init(onSharedPool config: ConfigReader) throws(SettingError) {
        try self.init(withoutPool: SettingValues(config))
    }
}
#endif
