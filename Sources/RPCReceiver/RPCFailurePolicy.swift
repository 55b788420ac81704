/// What becomes of a request whose handler failed with an error of its own (not with an `RPCFailure`, which is an answer).
///
/// A message that fails every time must not go round for ever. A quorum queue counts its deliveries, and a receiver gives up at
/// its delivery limit whatever the policy. A classic queue tells only whether a message was delivered before.
public enum RPCFailurePolicy: Sendable, Hashable, CaseIterable {
    /// The caller gets an error reply and the request is acknowledged: the default.
    case acknowledge
    /// The caller gets an error reply and the request is rejected: dead-lettered where its queue has an exchange for it.
    case reject
    /// The request goes back to the queue, without a reply, each time. On a classic queue a request that always fails then loops
    /// until its time to live ends.
    case requeue
    /// The request goes back to the queue once, without a reply; the second time it is rejected with an error reply.
    case requeueOnce

    enum Ending: Sendable, Equatable {
        case answerAndAcknowledge
        case answerAndReject
        case requeue
    }

    func ending(redelivered: Bool) -> Ending {
        switch self {
        case .acknowledge: .answerAndAcknowledge
        case .reject: .answerAndReject
        case .requeue: .requeue
        case .requeueOnce: redelivered ? .answerAndReject : .requeue
        }
    }
}
