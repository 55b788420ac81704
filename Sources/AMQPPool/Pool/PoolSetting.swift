import Supervision

#if Configuration
public import Configuration
#endif

/// The settings of a pool that can be read from the configuration of the process. A test compares them with
/// `docs/operations/configuration.md`.
package enum PoolSetting: String, Setting {
    case endpoints
    case username
    case password
    case shufflesEndpoints = "shuffle.endpoints"
    case connections
    case consumerConnections = "consumer.connections"
    case channelsPerConnection = "channels.per.connection"
    case boot
    case connectionName = "connection.name"
    case connectTimeout = "connect.timeout"
    case operationTimeout = "operation.timeout"
    case closeTimeout = "close.timeout"
    case heartbeat
    case reconnectMinimum = "reconnect.minimum"
    case reconnectMaximum = "reconnect.maximum"
    case maximumMessageSize = "maximum.message.size"

    package var isSecret: Bool {
        switch self {
        // An endpoint contains its password.
        case .endpoints, .password: true
        case .username, .shufflesEndpoints, .connections, .consumerConnections, .channelsPerConnection, .boot,
            .connectionName, .connectTimeout,
            .operationTimeout, .closeTimeout, .heartbeat, .reconnectMinimum, .reconnectMaximum, .maximumMessageSize:
            false
        }
    }
}

extension PoolConfiguration {
    /// Reads settings, with defaults for absent ones.
    package init(_ values: SettingValues) throws(SettingError) {
        guard let urls = values.strings(PoolSetting.endpoints) else {
            throw .missing(key: PoolSetting.endpoints.rawValue)
        }
        var endpoints: [Endpoint] = []
        for url in urls {
            do throws(EndpointError) {
                endpoints.append(try Endpoint(url: url))
            } catch {
                throw .invalid(key: PoolSetting.endpoints.rawValue, value: nil, expected: "a list of URIs: \(error)")
            }
        }
        self.init(endpoints: endpoints)
        try read(values)
    }

    /// Reads the settings other than the endpoints.
    mutating func read(_ values: SettingValues) throws(SettingError) {
        typealias Key = PoolSetting
        if let username = values.string(Key.username), let password = values.string(Key.password) {
            connection.credentials = CredentialsProvider { _ in Credentials(username: username, password: password) }
        } else if let key = values.string(Key.password).map({ _ in Key.username })
            ?? values.string(Key.username).map({ _ in Key.password })
        {
            throw .missing(key: key.rawValue)
        }
        if let value = try values.bool(Key.shufflesEndpoints) { shufflesEndpoints = value }
        if let value = try values.int(Key.connections, in: 1...1000) { connections = value }
        if let value = try values.int(Key.consumerConnections, in: 0...1000) { consumerConnections = value }
        if let value = try values.int(Key.channelsPerConnection, in: 1...2047) { channelsPerConnection = value }
        if let value = try values.word(
            Key.boot,
            ["keep-trying": BootPolicy.keepTrying, "fail-when-refused": .failWhenRefused]
        ) {
            boot = value
        }
        if let value = values.string(Key.connectionName) { connection.name = value }
        if let value = try values.duration(Key.connectTimeout) { connection.connectTimeout = value }
        if let value = try values.duration(Key.operationTimeout) { connection.operationTimeout = value }
        if let value = try values.duration(Key.closeTimeout) { connection.closeTimeout = value }
        if let value = try values.duration(Key.heartbeat) { connection.heartbeat = value }
        if let value = try values.duration(Key.reconnectMinimum) { backoff.minimum = value }
        if let value = try values.duration(Key.reconnectMaximum) { backoff.maximum = value }
        if let value = try values.int(Key.maximumMessageSize, in: 1...Int(Int32.max)) {
            connection.maximumMessageSize = value
        }
    }
}

#if Configuration
extension PoolConfiguration {
    /// Reads settings from a configuration, with defaults for absent ones.
    ///
    ///     let config = ConfigReader(provider: EnvironmentVariablesProvider())
    ///     let pool = AMQPPool(configuration: try PoolConfiguration(config.scoped(to: "amqp")))   // AMQP_ENDPOINTS, ...
    ///
    /// `docs/operations/configuration.md` lists the keys. Secrets are read as secrets, and are in no error.
    ///
    /// - Throws: ``SettingError`` for a missing or invalid setting.
    public init(_ config: ConfigReader) throws(SettingError) {
        try self.init(SettingValues(config))
    }
}

extension SettingValues {
    /// The values of a reader, whatever type its provider stores them in.
    package init(_ config: ConfigReader) {
        self.init(
            text: { key, isSecret in
                let key = ConfigKey(key)
                if let text = config.string(forKey: key, isSecret: isSecret) { return text }
                if let number = config.int(forKey: key, isSecret: isSecret) { return "\(number)" }
                if let number = config.double(forKey: key, isSecret: isSecret) { return "\(number)" }
                return config.bool(forKey: key, isSecret: isSecret).map { "\($0)" }
            },
            list: { key, isSecret in config.stringArray(forKey: ConfigKey(key), isSecret: isSecret) }
        )
    }
}
#endif
