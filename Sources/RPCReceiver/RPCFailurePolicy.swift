/// What happens to a request whose handler failed with an error of its own (not with an `RPCFailure`, which is an answer).
///
/// A message that fails every time must not be redelivered forever. A quorum queue counts its deliveries, and a receiver gives up at its
/// delivery limit whatever the policy. A classic queue says only whether a message was delivered before.
public enum RPCFailurePolicy: Sendable, Hashable, CaseIterable {
    /// The caller gets an error reply and the request is acknowledged. The default.
    case acknowledge
    /// The caller gets an error reply and the request is rejected: dead-lettered if its queue has a dead letter exchange.
    case reject
    /// The request is requeued each time, without a reply. On a classic queue a request that always fails is redelivered until its
    /// expiration.
    case requeue
    /// The request is requeued once, without a reply; the second time it is rejected with an error reply.
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
