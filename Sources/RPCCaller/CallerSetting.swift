#if Configuration
public import AMQPPool
public import Configuration
#else
import AMQPPool
#endif

/// The settings of a caller that the configuration of a process can carry, beside those of its pool. `docs/operations/configuration.md`
/// lists them, and a test compares.
package enum CallerSetting: String, Setting {
    case timeout
    case maximumCallsInFlight = "maximum.calls.in.flight"
    case whenNobodyServes = "when.nobody.serves"
    case replies
    case confirms
    case drainTimeout = "caller.drain.timeout"
}

extension RPCCallerConfiguration {
    package init(_ values: SettingValues) throws(SettingError) {
        let pool = try PoolConfiguration(values)
        self.init(endpoints: pool.endpoints, pool: pool)
        try read(values)
    }

    /// What does not concern connections.
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
    /// The settings that a configuration has, and the defaults for the others.
    ///
    ///     let config = ConfigReader(provider: EnvironmentVariablesProvider())
    ///     let rpc = RPCCaller(service: "checkout", configuration: try RPCCallerConfiguration(config.scoped(to: "rpc")))
    ///
    /// `docs/operations/configuration.md` lists the keys: `RPC_ENDPOINTS` and the others in the environment. Secrets are read as such, and
    /// are in no error.
    ///
    /// - Throws: `SettingError` for what is missing or cannot be read.
    public init(_ config: ConfigReader) throws(SettingError) {
        try self.init(SettingValues(config))
    }

    /// The same for a caller on a pool that others share: whose endpoints and connections are the pool's.
    public init(onSharedPool config: ConfigReader) throws(SettingError) {
        self.init()
        try read(SettingValues(config))
    }
}
#endif
