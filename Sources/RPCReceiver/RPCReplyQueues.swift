/// Which queues a receiver may send replies to.
///
/// A reply goes to the queue named in the request's `reply_to`, with the receiver's permissions. A sender of requests could therefore reach
/// any queue that the receiver's user may write to, and have the reply processed there as a message: in the request queue of another
/// service it would be a cast. A call whose reply queue is not allowed is not run; it is rejected, counted
/// (``RPCReceiverCounts/unanswerable``) and logged.
public enum RPCReplyQueues: Sendable, Hashable {
    /// Any queue except request queues: the receiver's own, and names that end with `RPCNames.requestQueueSuffix`. The default. It does not
    /// recognise the queues of services with other names, nor queues of other software: with such queues in the virtual host choose one of
    /// the next two.
    case notRequestQueues
    /// Only queues named like those of this library's callers, and those named by the broker: `amq.gen-...` and `amq.rabbitmq.reply-to...`.
    case callersOnly
    /// Only queues whose names begin with one of these prefixes.
    case prefixes([String])
    /// Any queue.
    case any
}
