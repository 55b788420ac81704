package import NIOCore

/// One message to publish, as ``Channel/submit(_:)`` takes it.
package struct Publish: Sendable {
    package var exchange: String
    package var routingKey: String
    /// Whether the broker returns a message that no queue takes.
    package var mandatory: Bool
    package var properties: MessageProperties
    package var body: ByteBuffer
    /// Asked on the event loop right before the message is encoded; `false` withdraws it (``PublishOutcome/notWritten(_:)``).
    ///
    /// For messages that waited in the outbox of a blocked or stuck connection until nobody wanted them any more.
    package var isWanted: (@Sendable () -> Bool)?
    /// Called on the event loop, exactly once. Without it the message is sent and forgotten.
    package var outcome: (@Sendable (PublishOutcome) -> Void)?

    package init(
        exchange: String,
        routingKey: String,
        mandatory: Bool = false,
        properties: MessageProperties = MessageProperties(),
        body: ByteBuffer,
        isWanted: (@Sendable () -> Bool)? = nil,
        outcome: (@Sendable (PublishOutcome) -> Void)? = nil
    ) {
        self.exchange = exchange
        self.routingKey = routingKey
        self.mandatory = mandatory
        self.properties = properties
        self.body = body
        self.isWanted = isWanted
        self.outcome = outcome
    }
}

/// What became of a published message. Each message has exactly one.
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
    /// No byte of it left: safe to send again, elsewhere too.
    case notWritten(AMQPError)
    /// Written and unconfirmed when the connection or the channel was lost.
    case unknown(AMQPError)
    /// Refused here before anything was sent; sending it again would be refused again.
    case refused(AMQPError)
}
