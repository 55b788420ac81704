/// A consumer on a channel, and its callbacks.
struct ChannelConsumer: Sendable {
    var queue = ""
    var noAck: Bool
    /// Whether it consumes from a stream offset: the broker closes the connection (540) if a message of a stream is rejected.
    var isOfStream = false
    var onDelivery: @Sendable (Delivery) -> Void
    var onCancel: @Sendable () -> Void
    /// Settles deliveries that cannot be accepted; `nil` rejects them.
    var onRefused: (@Sendable (RefusedDelivery) -> Void)?
    /// Its caller no longer waits for consume-ok: the consumer is cancelled when consume-ok arrives, and its deliveries are requeued.
    var isAbandoned = false
}
