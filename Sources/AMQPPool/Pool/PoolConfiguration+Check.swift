import Supervision

extension PoolConfiguration {
    /// A larger number of connections, or of channels of all connections together, is a mistake.
    static let maximumConnections = 1000
    static let maximumChannels = 100_000

    /// The number of processes for ``connections``: 1 if the settings are invalid.
    var connectionCount: Int { isSane ? max(1, connections) : 1 }

    /// The number of processes for all connections, including those for consuming.
    var allConnectionCount: Int { isSane ? connectionCount + max(0, consumerConnections) : 1 }

    /// The number of processes for ``channelsPerConnection``.
    var channelCount: Int { isSane ? max(1, channelsPerConnection) : 1 }

    /// The cooldown of the supervisors of connections and channels that fail repeatedly; never zero, which would mean no cooldown.
    var cooldown: Duration { max(backoff.maximum, .milliseconds(100)) }

    private var isSane: Bool {
        connections <= Self.maximumConnections && consumerConnections <= Self.maximumConnections
            && channelsPerConnection <= Self.maximumChannels
                / max(1, min(max(0, connections) + max(0, consumerConnections), 2 * Self.maximumConnections))
    }

    /// The settings of a connection of this pool: its channels, and one more for operations that need a separate channel.
    func connection(number: Int) -> ConnectionConfiguration {
        var settings = connection
        settings.name = settings.name.map { "\($0)-\(number)" }
        settings.requiredChannels = max(settings.requiredChannels, UInt16(clamping: channelCount + 1))
        return settings
    }

    /// Throws if a setting is invalid, before any socket is opened.
    func check() throws(AMQPError) {
        guard !endpoints.isEmpty else { throw .invalidArgument("the pool has no endpoints") }
        guard isSane else {
            throw .invalidArgument(
                "connections (\(connections)), consumerConnections (\(consumerConnections)) and "
                    + "channelsPerConnection (\(channelsPerConnection)) are more than "
                    + "\(Self.maximumConnections) connections or \(Self.maximumChannels) channels together"
            )
        }
        let settings = connection(number: allConnectionCount)
        try settings.check()
        for endpoint in endpoints { try settings.check(endpoint) }
    }
}
