import Supervision

extension ConnectionConfiguration {
    /// The longest name of a connection. Before the connection is tuned, all that a client says of itself goes into one frame of
    /// 4096 bytes.
    static let maximumNameBytes = 1000

    /// Throws what is wrong with the settings, before any socket is opened.
    func check() throws(AMQPError) {
        // With none of these nothing could ever be sent: who publishes would wait for room that never comes.
        try Self.check("maximumUnconfirmed", maximumUnconfirmed, atLeast: 1)
        try Self.check("maximumOutboxEntries", maximumOutboxEntries, atLeast: 1)
        try Self.check("maximumOutboxBytes", maximumOutboxBytes, atLeast: 0)
        try Self.check("maximumWaitingOperations", maximumWaitingOperations, atLeast: 0)
        try Self.check("maximumMessageSize", maximumMessageSize, atLeast: 0)
        // Each message that arrives would be rejected, and lost.
        try Self.check("maximumIncomingMessageSize", maximumIncomingMessageSize, atLeast: 0)
        guard let name else { return }
        let bytes = name.utf8.count
        guard bytes <= Self.maximumNameBytes else {
            throw .invalidArgument(
                "the connection name is \(bytes) bytes, and at most \(Self.maximumNameBytes) can be sent: "
                    + "\"\(name.prefix(40))...\""
            )
        }
    }

    private static func check(_ setting: String, _ value: Int, atLeast minimum: Int) throws(AMQPError) {
        guard value < minimum else { return }
        throw .invalidArgument("\(setting) must be at least \(minimum), but is \(value)")
    }

    /// Throws if connections to the endpoint have fewer channels than are needed.
    func check(_ endpoint: Endpoint) throws(AMQPError) {
        let limit = endpoint.channelMax ?? maximumChannels
        guard limit == 0 || limit >= requiredChannels else {
            throw .tooFewChannels(endpoint: endpoint.redacted, limit: limit, needed: requiredChannels)
        }
    }
}

extension PoolConfiguration {
    /// More connections, or channels of all connections together, are a mistake.
    static let maximumConnections = 1000
    static let maximumChannels = 100_000

    /// ``connections``, as many as there are processes for them: 1 where the settings are refused.
    package var connectionCount: Int { isSane ? max(1, connections) : 1 }

    /// ``channelsPerConnection``, as many as there are processes for them.
    var channelCount: Int { isSane ? max(1, channelsPerConnection) : 1 }

    /// How long a supervisor of connections or channels that fail without an end lets them be: without any time it would not let
    /// them be at all.
    var cooldown: Duration { max(backoff.maximum, .milliseconds(100)) }

    private var isSane: Bool {
        connections <= Self.maximumConnections
            && channelsPerConnection <= Self.maximumChannels / max(1, min(connections, Self.maximumConnections))
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
                "connections (\(connections)) and channelsPerConnection (\(channelsPerConnection)) are more than "
                    + "\(Self.maximumConnections) connections or \(Self.maximumChannels) channels together"
            )
        }
        let settings = connection(number: connectionCount)
        try settings.check()
        for endpoint in endpoints { try settings.check(endpoint) }
    }
}
