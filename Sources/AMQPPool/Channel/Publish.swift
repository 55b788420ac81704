package import NIOCore

/// One message to publish, as ``AMQPChannel/submit(_:)`` takes it.
package struct Publish: Sendable {
    package var exchange: String
    package var routingKey: String
    /// Whether the broker returns a message that no queue takes.
    package var mandatory: Bool
    package var properties: MessageProperties
    package var body: ByteBuffer
    /// Hears what becomes of it. Without one the message is sent and forgotten.
    package var observer: (any PublishObserver)?
    /// Tells the observer which of its messages this is.
    package var attempt: Int
    /// Whether the observer hears of failures only: not of ``PublishOutcome/confirmed``, ``PublishOutcome/presumedDelivered``,
    /// ``PublishOutcome/sent``. For those who learn by an answer that it arrived.
    package var tellsFailuresOnly: Bool
    /// Whether the observer hears what is known when the broker closes the channel for a message: ``PublishOutcome/refused(_:)`` for that
    /// one, and ``PublishOutcome/notWritten(_:)`` for what came behind it. Otherwise all of them are ``PublishOutcome/unknown(_:)``.
    package var tellsRefusals = false

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

    /// A message whose outcome is told to a closure.
    package init(
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

/// Who hears what becomes of a message. Both are called on the event loop.
///
/// An object, since closures would have to be made for each message.
package protocol PublishObserver: AnyObject, Sendable {
    /// Asked right before the message is encoded; `false` withdraws it (``PublishOutcome/notWritten(_:)``).
    ///
    /// For messages that waited in the outbox of a blocked or stuck connection until nobody wanted them any more.
    func mayWrite(_ attempt: Int) -> Bool
    /// Called exactly once for each message, but as ``Publish/tellsFailuresOnly`` has it.
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

/// What became of a published message. Each message has exactly one; on a channel without confirms its own ends with ``sent``.
package enum PublishOutcome: Sendable {
    /// The broker took responsibility for it.
    case confirmed
    /// The broker declined responsibility for it.
    case nacked
    /// Mandatory, and no queue takes it. The confirm that follows is not reported.
    case returned(code: UInt16, text: String)
    /// Unconfirmed when this side closed the channel or the connection by a completed handshake: the broker had routed
    /// it by then, and would have returned it.
    case presumedDelivered
    /// Encoded to be written, on a channel without confirms: no more will be heard of it, but of a return. See
    /// ``AMQPChannel/onReturn(_:)``.
    case sent
    /// No byte of it left, or the broker had closed the channel before it came: safe to send again, elsewhere too.
    case notWritten(AMQPError)
    /// Written and unconfirmed when the connection or the channel was lost.
    case unknown(AMQPError)
    /// Refused here before anything was sent, or by the broker (``Publish/tellsRefusals``); sending it again would be refused again.
    case refused(AMQPError)
}
