extension ConnectionConfiguration {
    /// The longest name of a connection. Before the frame size is negotiated, all client properties have to fit into one frame of 4096
    /// bytes.
    static let maximumNameBytes = 1000

    /// Throws if a setting is invalid, before any socket is opened.
    func check() throws(AMQPError) {
        // With a limit of 0 nothing could ever be sent: publishers would wait for room that never comes.
        try Self.check("maximumUnconfirmed", maximumUnconfirmed, atLeast: 1)
        try Self.check("maximumOutboxEntries", maximumOutboxEntries, atLeast: 1)
        try Self.check("maximumOutboxBytes", maximumOutboxBytes, atLeast: 0)
        try Self.check("maximumWaitingOperations", maximumWaitingOperations, atLeast: 0)
        try Self.check("maximumMessageSize", maximumMessageSize, atLeast: 0)
        // Every arriving message would be rejected and lost.
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

    /// Throws if connections to the endpoint would have fewer channels than needed.
    func check(_ endpoint: Endpoint) throws(AMQPError) {
        let limit = endpoint.channelMax ?? maximumChannels
        guard limit == 0 || limit >= requiredChannels else {
            throw .tooFewChannels(endpoint: endpoint.redacted, limit: limit, needed: requiredChannels)
        }
    }
}
