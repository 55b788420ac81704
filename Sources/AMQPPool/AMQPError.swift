/// An error of the AMQP client or the broker.
///
/// A closed enum: `switch` over it without a default. ``stage`` says which stage failed, ``isRetrySafe`` whether the same request may be
/// sent again without the broker seeing it twice. The broker's code and text are kept as they were sent. No error contains a credential.
public enum AMQPError: Error, Sendable, Hashable {
    // MARK: Opening a connection

    /// No TCP connection: the name does not resolve, nothing listens there, or nothing answered in time.
    case connectFailed(endpoint: String, reason: String)
    /// The endpoint is invalid.
    case invalidEndpoint(EndpointError)
    /// The connection could not be encrypted. Nothing was sent.
    case tlsFailed(endpoint: String, TLSFailure)
    /// The peer ended or did not complete the AMQP handshake, at this `stage`.
    case handshakeFailed(endpoint: String, stage: Stage, reason: String)
    /// The broker refused the user name or password (403).
    case authenticationFailed(endpoint: String, text: String)
    /// The connection would have fewer channels than needed, because of the URI's `channel_max`,
    /// ``ConnectionConfiguration/maximumChannels``, or the broker's `channel_max`. A pool ends with this error.
    case tooFewChannels(endpoint: String, limit: UInt16, needed: UInt16)
    /// The virtual host does not exist, or the user has no access to it (530, 403).
    case virtualHostRefused(endpoint: String, virtualHost: String, code: UInt16, text: String)
    /// No channel of the pool is ready. Contains the last error at each endpoint that was tried.
    case notConnected([EndpointFailure])
    /// A channel was opened, but the pool's `onOpen` threw an error that is not an `AMQPError`. Only its type is included.
    case setUpFailed(reason: String)
    /// The pool has not been started, has been stopped, or is restarting.
    case poolNotRunning
    /// The pool, or the tree it belongs to, failed to start or gave up for this reason. It can be started again.
    case poolEnded(why: String)

    // MARK: Loss of an open connection or channel

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
    /// The broker closed the channel because of another operation on it: a message that another task published.
    case channelLost(reason: String)
    /// The broker closed the *connection* because of this operation: 541 for a queue type that it does not permit, 503 for an exchange type
    /// that it does not have, 530, 540. `operation` names what was refused.
    case topologyRefused(operation: String, code: UInt16, text: String)
    /// The peer violated AMQP 0-9-1. The connection is closed.
    case protocolViolation(String)

    // MARK: Operations

    /// The broker did not answer in time. A late answer is ignored.
    case timedOut(operation: String, after: Duration)
    /// The waiting task was cancelled.
    case cancelled(operation: String)
    /// The broker accepts no messages on this connection (memory or disk alarm), and the deadline passed.
    case blocked(reason: String)
    /// A bounded queue of this client is full; if the operation waits for room, it stayed full until the deadline.
    case overloaded(String)
    /// The connection cannot have more channels.
    case tooManyChannels(limit: UInt16)
    /// The broker would close the connection because of this argument. Nothing was sent.
    case invalidArgument(String)
    /// A message or argument cannot be encoded. Nothing was sent.
    case unencodable(EncodingError)
    /// The body is larger than the configured limit. Nothing was sent.
    case messageTooLarge(bytes: Int, limit: Int)
    /// A fetched message has invalid properties. It was rejected without requeue.
    case propertiesRefused(String)
    /// A confirm was requested on a channel that is not in confirm mode. Nothing was sent.
    case confirmsNotSelected
    /// The mandatory message could not be routed to a queue; `basic.return` (312 is NO_ROUTE).
    case returned(code: UInt16, text: String, exchange: String, routingKey: String)
    /// The broker did not take responsibility for the message; `basic.nack`.
    case nacked
    /// The broker refused the message and closed the channel: the exchange does not exist (404), the user may not publish to it (403), or
    /// the message has another user's id (406).
    case refused(code: UInt16, text: String, exchange: String, routingKey: String)

    // MARK: Outcomes of requests

    /// The broker did not receive the request, because of this cause: nothing was written, or the broker had already closed the channel.
    indirect case notSent(AMQPError)
    /// The message was written, but because of this cause it is unknown whether the broker took responsibility for it.
    indirect case unconfirmed(AMQPError)

    /// The stage at which an error occurred.
    public enum Stage: String, Sendable, Hashable {
        /// Resolving the name and opening the TCP connection.
        case connect
        /// The TLS handshake, or its preparation.
        case encrypt
        /// From the protocol header to the broker's tuning.
        case authenticate
        /// Opening the virtual host.
        case openVirtualHost
        /// An open connection.
        case connection
        /// An open channel.
        case channel
        /// An operation on a channel.
        case operation
        /// Publishing a message to the broker.
        case publish
    }

    /// Why an endpoint could not be connected to.
    public struct EndpointFailure: Sendable, Hashable {
        /// The endpoint's host, port and virtual host.
        public let endpoint: String
        /// The last error; while the first attempt is in progress, an error that says so.
        public let error: AMQPError
        /// The number of failed attempts since the last successful one, at least 1.
        public let attempts: Int

        package init(endpoint: String, error: AMQPError, attempts: Int = 1) {
            self.endpoint = endpoint
            self.error = error
            self.attempts = attempts
        }
    }
}

extension AMQPError {
    /// The stage at which the error occurred.
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

    /// Whether a channel ended with this error.
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

    /// What the broker refused, in the way in which it says so.
    package enum Refusal: Sendable, Hashable {
        /// It closed the channel for an operation.
        case operation(code: UInt16, text: String)
        /// It closed the connection for a declaration.
        case topology(code: UInt16, text: String)
        /// It closed the channel for a message.
        case message(code: UInt16, text: String)
    }

    /// What the broker refused, if this is what it says of an operation or a message.
    package var refusal: Refusal? {
        switch self {
        case .channelClosedByBroker(let code, let text): .operation(code: code, text: text)
        case .topologyRefused(_, let code, let text): .topology(code: code, text: text)
        case .refused(let code, let text, _, _): .message(code: code, text: text)
        case .notSent(let cause), .unconfirmed(let cause): cause.refusal
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosed, .channelLost,
            .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded, .tooManyChannels, .invalidArgument,
            .unencodable, .messageTooLarge, .propertiesRefused, .confirmsNotSelected, .returned, .nacked:
            nil
        }
    }

    /// Whether what was asked for is wrong, so that it fails whenever it is tried.
    var isMistake: Bool {
        switch self {
        case .invalidArgument, .unencodable, .messageTooLarge: true
        case .notSent(let cause), .unconfirmed(let cause): cause.isMistake
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosedByBroker, .channelClosed,
            .channelLost, .topologyRefused, .protocolViolation, .timedOut, .cancelled, .blocked, .overloaded,
            .tooManyChannels, .propertiesRefused, .confirmsNotSelected, .returned, .nacked, .refused:
            false
        }
    }

    /// The error without the enclosing ``notSent(_:)`` or ``unconfirmed(_:)``.
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
    /// The error as a sentence.
    public var description: String {
        switch self {
        case .connectFailed(let endpoint, let reason): "cannot connect to \(endpoint): \(reason)"
        case .invalidEndpoint(let error): "the endpoint is invalid: \(error)"
        case .tlsFailed(let endpoint, let failure): "cannot connect to \(endpoint): \(failure)"
        case .handshakeFailed(let endpoint, let stage, let reason):
            "the handshake with \(endpoint) failed (\(stage.rawValue)): \(reason)"
        case .authenticationFailed(let endpoint, let text): "\(endpoint) refused the credentials: \(text)"
        case .virtualHostRefused(let endpoint, let virtualHost, let code, let text):
            "\(endpoint) refused the virtual host \"\(virtualHost)\": \(code) \(text)"
        case .tooFewChannels(let endpoint, let limit, let needed):
            "a connection to \(endpoint) can have \(limit) channels, but \(needed) are needed: raise channel_max"
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
            "the broker refused \(operation), and closed the connection: \(code) \(text)"
        case .protocolViolation(let what): "the broker violated the protocol: \(what)"
        case .timedOut(let operation, let duration): "\(operation) was not answered within \(duration)"
        case .cancelled(let operation): "\(operation) was cancelled"
        case .blocked(let reason): "the broker accepts no messages at present: \(reason)"
        case .overloaded(let what): "overloaded: \(what)"
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
    /// The error, the endpoint, and the number of attempts if more than one.
    public var description: String {
        let text = "\(error)"
        return (text.contains(endpoint) ? text : "\(endpoint): \(text)")
            + (attempts > 1 ? " (\(attempts) attempts)" : "")
    }
}
