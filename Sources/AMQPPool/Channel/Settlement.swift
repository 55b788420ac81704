/// What the broker is told about a delivery.
package enum Settlement: Sendable, Hashable {
    case acknowledge
    case reject
    /// It was tried and comes again. Sent as `basic.reject`: RabbitMQ 4.3 does not count a `basic.nack` as a delivery, and a message
    /// that ends its handler would never reach the queue's delivery limit.
    case requeue
    /// It was not tried and comes again. Sent as `basic.nack`, which costs it no attempt where the broker makes that difference.
    case giveBack
}
