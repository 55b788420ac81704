/// A delivery that has not been settled.
///
/// The first call of ``acknowledge()`` or ``reject(requeue:)`` counts. Both do nothing when the channel has been lost: the broker
/// redelivers the message.
public struct UnsettledDelivery: Sendable {
    /// The message.
    public var delivery: Delivery { message.delivery }
    // By reference: it is passed on several times, and a delivery is large.
    let message: HandedOver
    let run: UInt64
    let runner: DeliveryRunner

    /// Acknowledges the message. Callable on any thread; does not wait.
    public func acknowledge() {
        runner.end(run, [.acknowledge])
    }

    /// Rejects the message. Callable on any thread; does not wait.
    ///
    /// A stream does not support rejecting, so nothing is sent: the message is skipped or, with `requeue`, delivered again locally.
    ///
    /// - Parameter requeue: Whether the broker redelivers it, immediately: a message that can never be handled would loop. If not, it is
    ///   dead-lettered or dropped.
    public func reject(requeue: Bool) {
        runner.end(run, [requeue ? .requeue(after: .zero) : .reject])
    }
}
