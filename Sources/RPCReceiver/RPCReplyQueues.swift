/// Which queues a receiver sends replies to.
///
/// A reply goes to the queue that its request names in `reply_to`, under the receiver's rights. Whoever may send requests could so reach
/// any queue that the receiver's user may write to, and have it take the reply for a message of its own: in the request queue of
/// another service it would be a cast. A call whose reply queue is not among these is not run; it is rejected, counted
/// (``RPCReceiverCounts/unanswerable``) and logged.
public enum RPCReplyQueues: Sendable, Hashable {
    /// Any queue but those that requests wait in: the receiver's own, and whatever ends as `RPCNames.requestQueueSuffix` says. The
    /// default. It does not know the queues of services that name theirs otherwise, nor queues of other software: with such ones in the
    /// virtual host choose one of the next two.
    case notRequestQueues
    /// Only queues named as this library's callers name theirs, and those that the broker names: `amq.gen-...` and
    /// `amq.rabbitmq.reply-to...`.
    case callersOnly
    /// Only queues whose names begin with one of these.
    case prefixes([String])
    /// Any queue.
    case any
}
