/// Everything that can go wrong between this client and a broker.
///
/// A closed list: `switch` over it without a default. ``stage`` says how far things had come, ``isRetrySafe`` whether the
/// same request may be sent again without the broker seeing it twice. The broker's own code and text are kept as they
/// were sent. No error ever holds a credential.
public enum AMQPError: Error, Sendable, Hashable {
    // MARK: Opening a connection

    /// No TCP connection: the name does not resolve, nobody listens there, or nobody answered in time.
    case connectFailed(endpoint: String, reason: String)
    /// The endpoint is not one that can be connected to.
    case invalidEndpoint(EndpointError)
    /// The connection could not be encrypted, so nothing was sent.
    case tlsFailed(endpoint: String, TLSFailure)
    /// The peer ended, or did not complete, the AMQP handshake. `stage` tells where.
    case handshakeFailed(endpoint: String, stage: Stage, reason: String)
    /// The broker refused the user name or the password (403).
    case authenticationFailed(endpoint: String, text: String)
    /// A connection may have fewer channels than are needed: by `channel_max` of the URI, ``ConnectionConfiguration/maximumChannels``,
    /// or the broker's `channel_max`. A pool ends with it.
    case tooFewChannels(endpoint: String, limit: UInt16, needed: UInt16)
    /// The virtual host does not exist, or the user may not use it (530, 403).
    case virtualHostRefused(endpoint: String, virtualHost: String, code: UInt16, text: String)
    /// No channel of the pool is ready. The last error at each endpoint that was tried says why.
    case notConnected([EndpointFailure])
    /// A channel was opened, and the pool's `onOpen` threw an error of its own, of which only the type is told.
    case setUpFailed(reason: String)
    /// The pool was not started, was stopped, or is about to start again.
    case poolNotRunning
    /// The pool, or the tree that it is a part of, could not start or gave up, for this reason. It may be started again.
    case poolEnded(why: String)

    // MARK: Losing what was open

    /// The TCP connection ended without a closing handshake.
    case connectionLost(reason: String)
    /// Nothing arrived for two heartbeat intervals.
    case heartbeatTimeout(interval: Duration)
    /// The broker closed the connection.
    case connectionClosedByBroker(code: UInt16, text: String)
    /// This side closed the connection.
    case connectionClosed
    /// The broker closed the channel.
    case channelClosedByBroker(code: UInt16, text: String)
    /// This side closed the channel.
    case channelClosed
    /// The broker closed the channel for something else that was done on it: a message that another task published there.
    case channelLost(reason: String)
    /// The broker closed the *connection* instead of doing what the operation asks for: 541 for a kind of queue that it does not
    /// permit, 503 for a type of exchange that it does not have, 530, 540. The operation names what was refused.
    case topologyRefused(operation: String, code: UInt16, text: String)
    /// The peer sent what AMQP 0-9-1 does not allow here. The connection is closed.
    case protocolViolation(String)

    // MARK: One operation

    /// The broker did not answer in time. Its late answer will be absorbed.
    case timedOut(operation: String, after: Duration)
    /// The task that waited was cancelled.
    case cancelled(operation: String)
    /// The broker accepts no messages on this connection (memory or disk alarm), and the deadline passed meanwhile.
    case blocked(reason: String)
    /// A bounded queue of this client is full, and was until the deadline where that is waited for.
    case overloaded(String)
    /// No more channels fit on this connection.
    case tooManyChannels(limit: UInt16)
    /// An argument that the broker would punish with closing the connection. Nothing was sent.
    case invalidArgument(String)
    /// A message or argument cannot be encoded. Nothing of it was sent.
    case unencodable(EncodingError)
    /// The body is larger than the configured limit. Nothing of it was sent.
    case messageTooLarge(bytes: Int, limit: Int)
    /// A message that was fetched has properties that cannot be accepted. It was rejected without requeue.
    case propertiesRefused(String)
    /// An outcome was asked for on a channel that is not in confirm mode. Nothing was sent.
    case confirmsNotSelected
    /// No queue takes the mandatory message; `basic.return` (312 is NO_ROUTE).
    case returned(code: UInt16, text: String, exchange: String, routingKey: String)
    /// The broker did not take responsibility for the message; `basic.nack`.
    case nacked
    /// The broker refused the message, and closed the channel for it: there is no such exchange (404), the user may not publish there
    /// (403), or the message has another user's id (406).
    case refused(code: UInt16, text: String, exchange: String, routingKey: String)

    // MARK: What became of a request

    /// The broker has not taken the request, because of the cause: no byte of it left this process, or it came on a channel that
    /// the broker had closed before.
    indirect case notSent(AMQPError)
    /// The message was written, and whether the broker took it is not known, because of the cause.
    indirect case unconfirmed(AMQPError)

    /// How far things had come.
    public enum Stage: String, Sendable, Hashable {
        /// Resolving the name and opening the TCP connection.
        case connect
        /// The TLS handshake, or its preparation.
        case encrypt
        /// From the protocol header to the broker's tuning.
        case authenticate
        /// Opening the virtual host.
        case openVirtualHost
        /// A connection that was open.
        case connection
        /// A channel that was open.
        case channel
        /// An operation on a channel.
        case operation
        /// Handing a message to the broker.
        case publish
    }

    /// Why one endpoint could not be connected to.
    public struct EndpointFailure: Sendable, Hashable {
        /// The endpoint's host, port and virtual host.
        public let endpoint: String
        /// The last error there; while the first attempt goes on, that it does.
        public let error: AMQPError
        /// How often connecting failed there since it last worked, or 1.
        public let attempts: Int

        package init(endpoint: String, error: AMQPError, attempts: Int = 1) {
            self.endpoint = endpoint
            self.error = error
            self.attempts = attempts
        }
    }
}

extension AMQPError {
    /// How far things had come when this happened.
    public var stage: Stage {
        switch self {
        case .connectFailed, .invalidEndpoint, .notConnected, .poolNotRunning, .poolEnded: .connect
        case .tlsFailed: .encrypt
        case .handshakeFailed(_, let stage, _): stage
        case .authenticationFailed, .tooFewChannels: .authenticate
        case .virtualHostRefused: .openVirtualHost
        case .connectionLost, .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .protocolViolation,
            .tooManyChannels:
            .connection
        case .channelClosedByBroker, .channelClosed, .channelLost, .setUpFailed: .channel
        case .topologyRefused, .timedOut, .cancelled, .overloaded, .invalidArgument, .propertiesRefused: .operation
        case .blocked, .unencodable, .messageTooLarge, .confirmsNotSelected, .returned, .nacked, .refused,
            .unconfirmed:
            .publish
        case .notSent(let cause): cause.stage
        }
    }

    /// Whether the request can be sent again without the broker seeing it twice.
    ///
    /// `true` when nothing was sent, or when the broker answered that it did not take it.
    public var isRetrySafe: Bool {
        switch self {
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed,
            .virtualHostRefused, .tooFewChannels, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded,
            .overloaded,
            .tooManyChannels,
            .invalidArgument, .unencodable, .messageTooLarge,
            .confirmsNotSelected,
            .returned, .nacked, .refused, .notSent:
            true
        case .connectionLost, .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosedByBroker,
            .channelClosed, .channelLost, .topologyRefused, .protocolViolation, .timedOut, .cancelled, .blocked,
            .propertiesRefused,
            .unconfirmed:
            false
        }
    }

    /// The broker's reply code, where it sent one (AMQP 0-9-1, section 1.2).
    public var replyCode: UInt16? {
        switch self {
        case .authenticationFailed: 403
        case .virtualHostRefused(_, _, let code, _), .connectionClosedByBroker(let code, _),
            .channelClosedByBroker(let code, _), .topologyRefused(_, let code, _), .returned(let code, _, _, _),
            .refused(let code, _, _, _):
            code
        case .notSent(let cause), .unconfirmed(let cause): cause.replyCode
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .tooFewChannels, .notConnected,
            .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost, .heartbeatTimeout, .connectionClosed,
            .channelClosed, .channelLost, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded,
            .tooManyChannels, .invalidArgument, .unencodable, .messageTooLarge, .propertiesRefused,
            .confirmsNotSelected, .nacked:
            nil
        }
    }

    /// Whether a channel ended with this.
    var isEndOfChannel: Bool {
        switch self {
        case .connectionLost, .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .protocolViolation,
            .channelClosedByBroker, .channelClosed, .channelLost, .topologyRefused:
            true
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .timedOut, .cancelled,
            .blocked, .overloaded, .tooManyChannels, .invalidArgument, .unencodable, .messageTooLarge,
            .propertiesRefused, .confirmsNotSelected, .returned, .nacked, .refused, .notSent, .unconfirmed:
            false
        }
    }

    /// The error without ``notSent(_:)`` and ``unconfirmed(_:)`` around it.
    public var cause: AMQPError {
        switch self {
        case .notSent(let cause), .unconfirmed(let cause): cause.cause
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosedByBroker, .channelClosed,
            .channelLost, .topologyRefused, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded,
            .tooManyChannels, .invalidArgument, .unencodable, .messageTooLarge, .propertiesRefused,
            .confirmsNotSelected, .returned, .nacked, .refused:
            self
        }
    }
}

extension AMQPError: CustomStringConvertible {
    /// What happened, in one sentence.
    public var description: String {
        switch self {
        case .connectFailed(let endpoint, let reason): "cannot connect to \(endpoint): \(reason)"
        case .invalidEndpoint(let error): "the endpoint cannot be connected to: \(error)"
        case .tlsFailed(let endpoint, let failure): "cannot connect to \(endpoint): \(failure)"
        case .handshakeFailed(let endpoint, let stage, let reason):
            "the handshake with \(endpoint) failed (\(stage.rawValue)): \(reason)"
        case .authenticationFailed(let endpoint, let text): "\(endpoint) refused the credentials: \(text)"
        case .virtualHostRefused(let endpoint, let virtualHost, let code, let text):
            "\(endpoint) refused the virtual host \"\(virtualHost)\": \(code) \(text)"
        case .tooFewChannels(let endpoint, let limit, let needed):
            "a connection to \(endpoint) may have \(limit) channels, and \(needed) are needed: raise channel_max"
        case .notConnected(let failures):
            failures.isEmpty
                ? "not connected yet"
                : "not connected: " + failures.map { "\($0)" }.joined(separator: "; ")
        case .setUpFailed(let reason): "the channel was opened, but its set-up failed: \(reason)"
        case .poolNotRunning: "the pool is not running"
        case .poolEnded(let why): "the pool has ended: \(why)"
        case .connectionLost(let reason): "the connection was lost: \(reason)"
        case .heartbeatTimeout(let interval):
            "the connection was lost: nothing arrived for two heartbeats (\(interval) each)"
        case .connectionClosedByBroker(let code, let text): "the broker closed the connection: \(code) \(text)"
        case .connectionClosed: "the connection is closed"
        case .channelClosedByBroker(let code, let text): "the broker closed the channel: \(code) \(text)"
        case .channelClosed: "the channel is closed"
        case .channelLost(let reason): "the channel was lost: \(reason)"
        case .topologyRefused(let operation, let code, let text):
            "the broker refused \(operation), and closed the connection for it: \(code) \(text)"
        case .protocolViolation(let what): "the broker broke the protocol: \(what)"
        case .timedOut(let operation, let duration): "\(operation) was not answered within \(duration)"
        case .cancelled(let operation): "\(operation) was cancelled"
        case .blocked(let reason): "the broker accepts no messages at present: \(reason)"
        case .overloaded(let what): "too much at once: \(what)"
        case .tooManyChannels(let limit): "all \(limit) channels of the connection are open"
        case .invalidArgument(let what): what
        case .unencodable(let error): "cannot be encoded: \(error)"
        case .messageTooLarge(let bytes, let limit): "a body of \(bytes) bytes is over the limit of \(limit)"
        case .propertiesRefused(let why): "the message's properties cannot be accepted: \(why)"
        case .confirmsNotSelected: "the channel is not in confirm mode"
        case .returned(let code, let text, let exchange, let routingKey):
            "returned by exchange \"\(exchange)\" for routing key \"\(routingKey)\": \(code) \(text)"
        case .refused(let code, let text, let exchange, let routingKey):
            "the broker refused the message to exchange \"\(exchange)\" with routing key \"\(routingKey)\": \(code) \(text)"
        case .nacked: "the broker refused responsibility for the message"
        case .notSent(let cause): "not sent: \(cause)"
        case .unconfirmed(let cause): "sent, but not confirmed: \(cause)"
        }
    }
}

extension AMQPError.EndpointFailure: CustomStringConvertible {
    /// The error, where it was, and how often, if more than once.
    public var description: String {
        let text = "\(error)"
        return (text.contains(endpoint) ? text : "\(endpoint): \(text)")
            + (attempts > 1 ? " (\(attempts) attempts)" : "")
    }
}
