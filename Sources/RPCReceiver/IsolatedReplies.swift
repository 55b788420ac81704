import AMQPPool
import Logging
import RPCWire
import Synchronization

/// The outcome of an answer that was sent alone.
enum IsolatedOutcome: Sendable, Equatable {
    /// The broker has accepted it.
    case delivered
    /// The broker closed the channel or connection because of it, with this text.
    case refused(String)
    /// It is unknown whether the broker has accepted it.
    case unknown(String)
}

/// Sends answers one after another on a separate connection, each confirmed before the next: a refusal can therefore concern only one of
/// them, and affects nothing else. See ``DeliveryHistory``.
///
/// The number of waiting answers is bounded by the receiver's prefetch, because none of their requests is acknowledged.
actor IsolatedReplies {
    private let configuration: ConnectionConfiguration
    private let logger: Logger
    private var connection: AMQPConnection?
    private var channel: AMQPChannel?
    private var waiting = 0
    private var last: Task<Void, Never>?

    /// How long the broker may take for a confirm.
    static var timeout: Duration { .seconds(5) }

    init(_ configuration: ConnectionConfiguration, logger: Logger) {
        var configuration = configuration
        configuration.name = configuration.name.map { "\($0)-isolated" }
        configuration.connectTimeout = min(configuration.connectTimeout, Self.timeout)
        self.configuration = configuration
        self.logger = logger
    }

    /// Sends an answer, after the earlier ones.
    func send(_ reply: ReplyMessage, to queue: String, at endpoint: Endpoint) async -> IsolatedOutcome {
        let before = last
        waiting += 1
        let work = Task { () -> IsolatedOutcome in
            await before?.value
            return await publish(reply, to: queue, at: endpoint)
        }
        last = Task { _ = await work.value }
        let outcome = await work.value
        waiting -= 1
        if waiting == 0 { await end() }
        return outcome
    }

    private func publish(_ reply: ReplyMessage, to queue: String, at endpoint: Endpoint) async -> IsolatedOutcome {
        do throws(AMQPError) {
            let channel = try await openChannel(at: endpoint)
            try await channel.publish(
                reply.body,
                properties: reply.properties,
                routingKey: queue,
                timeout: Self.timeout
            )
            return .delivered
        } catch {
            switch error.cause {
            // A full reply queue: that concerns only the caller, which learns of it at its deadline.
            case .nacked, .returned: return .delivered
            case .channelClosedByBroker, .connectionClosedByBroker, .topologyRefused:
                let isRefused = ChannelEnd(error) == .refused
                await end()
                return isRefused ? .refused("\(error.cause)") : .unknown("\(error)")
            case .refused:
                await end()
                return .refused("\(error.cause)")
            case .unencodable, .messageTooLarge, .propertiesRefused: return .refused("\(error.cause)")
            case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed,
                .tooFewChannels, .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded,
                .connectionLost, .heartbeatTimeout, .connectionClosed, .channelClosed, .channelLost,
                .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded, .tooManyChannels, .invalidArgument,
                .confirmsNotSelected, .notSent, .unconfirmed:
                await end()
                return .unknown("\(error)")
            }
        }
    }

    private func openChannel(at endpoint: Endpoint) async throws(AMQPError) -> AMQPChannel {
        if let channel, channel.closedError == nil, connection?.endpoint == endpoint { return channel }
        await end()
        let connection = try await AMQPConnection.open(endpoint, configuration: configuration, logger: logger)
        self.connection = connection
        let channel = try await connection.openChannel()
        self.channel = channel
        return channel
    }

    private func end() async {
        let connection = connection
        self.connection = nil
        channel = nil
        await connection?.close()
    }
}

typealias ChannelEnd = DeliveryHistory<ObjectIdentifier>.ChannelEnd

extension DeliveryHistory.ChannelEnd {
    /// What the end of a channel implies for the answers that were sent on it.
    init(_ error: AMQPError) {
        switch error.cause {
        // A broker that is shut down, or an operator who closes a connection.
        case .connectionClosedByBroker(320, _): self = .lost
        case .channelClosedByBroker, .connectionClosedByBroker, .topologyRefused: self = .refused
        case .channelClosed, .connectionClosed: self = .clean
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .channelLost, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded,
            .tooManyChannels, .invalidArgument, .unencodable, .messageTooLarge, .propertiesRefused,
            .confirmsNotSelected, .returned, .nacked, .refused, .notSent, .unconfirmed:
            self = .lost
        }
    }
}
