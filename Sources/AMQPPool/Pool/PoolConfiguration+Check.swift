import Supervision

extension PoolConfiguration {
    /// More connections, or channels of all connections together, are a mistake.
    static let maximumConnections = 1000
    static let maximumChannels = 100_000

    /// ``connections``, as many as there are processes for them: 1 where the settings are refused.
    package var connectionCount: Int { isSane ? max(1, connections) : 1 }

    /// As many as there are processes for them, those for consuming included.
    var allConnectionCount: Int { isSane ? connectionCount + max(0, consumerConnections) : 1 }

    /// ``channelsPerConnection``, as many as there are processes for them.
    var channelCount: Int { isSane ? max(1, channelsPerConnection) : 1 }

    /// How long a supervisor of connections or channels that fail without an end lets them be: without any time it would not let
    /// them be at all.
    var cooldown: Duration { max(backoff.maximum, .milliseconds(100)) }

    private var isSane: Bool {
        connections <= Self.maximumConnections && consumerConnections <= Self.maximumConnections
            && channelsPerConnection <= Self.maximumChannels
                / max(1, min(max(0, connections) + max(0, consumerConnections), 2 * Self.maximumConnections))
    }

    /// The settings of a connection of this pool: its channels, and one more for what needs a channel for itself.
    func connection(number: Int) -> ConnectionConfiguration {
        var settings = connection
        settings.name = settings.name.map { "\($0)-\(number)" }
        settings.requiredChannels = max(settings.requiredChannels, UInt16(clamping: channelCount + 1))
        return settings
    }

    /// Throws what is wrong with the settings, before any socket is opened.
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
