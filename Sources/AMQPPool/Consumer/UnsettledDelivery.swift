/// A delivery that the broker waits to hear about.
///
/// The first of ``acknowledge()`` and ``reject(requeue:)`` counts. Both do nothing once the channel it came on is lost: the
/// broker delivers the message again.
public struct UnsettledDelivery: Sendable {
    /// The message.
    public let delivery: Delivery
    let run: UInt64
    let runner: DeliveryRunner

    /// The message was dealt with. Any thread, without waiting.
    public func acknowledge() {
        runner.end(run, [.acknowledge])
    }

    /// The message is not wanted. Any thread, without waiting.
    ///
    /// A stream knows no rejecting, and nothing of it is sent there: the message is passed, or with `requeue` comes again from here.
    ///
    /// - Parameter requeue: whether the broker delivers it again, at once: a message that can never be dealt with would go
    ///   round and round. If not, it is dead-lettered or dropped.
    public func reject(requeue: Bool) {
        runner.end(run, [requeue ? .requeue(after: .zero) : .reject])
    }
}
