/// How a delivery is settled.
package enum Settlement: Sendable, Hashable {
    case acknowledge
    case reject
    /// The message was tried and will be redelivered. Sent as `basic.reject`: RabbitMQ 4.3 does not count a `basic.nack` as a delivery, so
    /// a message that crashes its handler would never reach the queue's delivery limit.
    case requeue
    /// The message was not tried and will be redelivered. Sent as `basic.nack`, which does not cost it an attempt on brokers that make the
    /// distinction.
    case giveBack
}
