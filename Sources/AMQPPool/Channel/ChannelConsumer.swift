/// A consumer that the broker knows of on a channel, and who is told what comes for it.
struct ChannelConsumer: Sendable {
    var queue = ""
    var noAck: Bool
    /// Whether it consumes from an offset: the broker closes the connection (540) for a message of a stream that is rejected.
    var isOfStream = false
    var onDelivery: @Sendable (Delivery) -> Void
    var onCancel: @Sendable () -> Void
    /// Settles what cannot be handed on; nil rejects it.
    var onRefused: (@Sendable (RefusedDelivery) -> Void)?
    /// Nobody waits for its consume-ok any more: it is cancelled when that comes, and its deliveries go back.
    var isAbandoned = false
}
