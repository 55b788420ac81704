package import NIOCore

/// A message to publish, for ``AMQPChannel/submit(_:)``.
package struct Publish: Sendable {
    var exchange: String
    var routingKey: String
    /// Whether the broker returns a message that cannot be routed to a queue.
    var mandatory: Bool
    var properties: MessageProperties
    var body: ByteBuffer
    /// Receives the outcome. Without an observer the outcome is ignored.
    var observer: (any PublishObserver)?
    /// The observer's number for the message.
    var attempt: Int
    /// Whether the observer is notified of failures only, not of ``PublishOutcome/confirmed``, ``PublishOutcome/presumedDelivered`` and
    /// ``PublishOutcome/sent``. For callers that learn of the arrival by a reply.
    var tellsFailuresOnly: Bool
    /// Whether the observer gets the detailed outcome when the broker closes the channel because of a message:
    /// ``PublishOutcome/refused(_:)`` for that one, and ``PublishOutcome/notWritten(_:)`` for the messages after it. Otherwise all of them
    /// are ``PublishOutcome/unknown(_:)``.
    var tellsRefusals = false

    package init(
        exchange: String,
        routingKey: String,
        mandatory: Bool = false,
        properties: MessageProperties = MessageProperties(),
        body: ByteBuffer,
        observer: (any PublishObserver)? = nil,
        attempt: Int = 1,
        tellsFailuresOnly: Bool = false
    ) {
        self.exchange = exchange
        self.routingKey = routingKey
        self.mandatory = mandatory
        self.properties = properties
        self.body = body
        self.observer = observer
        self.attempt = attempt
        self.tellsFailuresOnly = tellsFailuresOnly
    }

    /// Creates a message whose outcome is passed to a closure.
    init(
        exchange: String,
        routingKey: String,
        mandatory: Bool = false,
        properties: MessageProperties = MessageProperties(),
        body: ByteBuffer,
        isWanted: @escaping @Sendable () -> Bool = { true },
        outcome: @escaping @Sendable (PublishOutcome) -> Void
    ) {
        self.init(
            exchange: exchange,
            routingKey: routingKey,
            mandatory: mandatory,
            properties: properties,
            body: body,
            observer: PublishClosures(isWanted: isWanted, outcome: outcome)
        )
    }

    func end(_ outcome: PublishOutcome) {
        observer?.published(attempt, outcome)
    }
}

/// The recipient of a message's outcome. Both methods are called on the event loop.
///
/// An object, because closures would have to be created for each message.
package protocol PublishObserver: AnyObject, Sendable {
    /// Called right before the message is encoded; `false` withdraws it (``PublishOutcome/notWritten(_:)``).
    ///
    /// For messages that waited in the outbox of a blocked or stuck connection until nobody needed them any more.
    func mayWrite(_ attempt: Int) -> Bool
    /// Called exactly once for each message, subject to ``Publish/tellsFailuresOnly``.
    func published(_ attempt: Int, _ outcome: PublishOutcome)
}

private final class PublishClosures: PublishObserver {
    private let isWanted: @Sendable () -> Bool
    private let outcome: @Sendable (PublishOutcome) -> Void

    init(isWanted: @escaping @Sendable () -> Bool, outcome: @escaping @Sendable (PublishOutcome) -> Void) {
        self.isWanted = isWanted
        self.outcome = outcome
    }

    func mayWrite(_ attempt: Int) -> Bool { isWanted() }

    func published(_ attempt: Int, _ outcome: PublishOutcome) { self.outcome(outcome) }
}

/// The outcome of a published message, exactly one per message; on a channel without confirms it is ``sent`` at best.
package enum PublishOutcome: Sendable {
    /// The broker took responsibility for it.
    case confirmed
    /// The broker declined responsibility for it.
    case nacked
    /// The message was mandatory and could not be routed to a queue. The confirm that follows is not reported.
    case returned(code: UInt16, text: String)
    /// Unconfirmed when this side closed the channel or connection by a completed handshake: the broker had routed it by then, or would
    /// have returned it.
    case presumedDelivered
    /// Encoded for writing on a channel without confirms. Nothing more is reported except a return: see ``AMQPChannel/onReturn(_:)``.
    case sent
    /// Nothing was written, or the broker had already closed the channel: it is safe to send the message again, on any channel.
    case notWritten(AMQPError)
    /// Written and unconfirmed when the connection or channel was lost.
    case unknown(AMQPError)
    /// Refused before anything was sent, or by the broker (``Publish/tellsRefusals``); it would be refused again.
    case refused(AMQPError)
}
