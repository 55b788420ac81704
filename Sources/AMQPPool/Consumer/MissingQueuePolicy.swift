/// What a consumer does about a queue, or anything else it needs, that the broker does not have (404).
///
/// That may pass: another service declares the queue when it starts, and a durable classic queue is not found while its node of
/// the cluster is down (``AMQPError/isQueueNodeDown``; from RabbitMQ 4.0 on the broker does not answer at all then, which counts as
/// missing here). Each attempt opens a channel, for which the broker closes it, and logs
/// a warning.
public enum MissingQueuePolicy: Sendable, Hashable {
    /// Tries again, after ``ConsumerConfiguration/reopenBackoff``, without an end.
    case wait
    /// Tries again for this long at the most since it was last there, then throws the ``AMQPError``: a ``Consumer`` ends with
    /// it, and its supervisor does what it does about a crash.
    case fail(after: Duration)
}

extension AMQPError {
    /// Whether this is the broker's answer about a durable classic queue whose node of the cluster is down: it exists, cannot be
    /// declared anew (404), and is back with its messages when its node is.
    ///
    /// So RabbitMQ answers up to 3.13. From 4.0 on it does not answer until the node is back: declaring and consuming end with
    /// ``timedOut(operation:after:)``, and what is published is nacked; this is false then.
    public var isQueueNodeDown: Bool {
        guard case .channelClosedByBroker(code: 404, let text) = cause else { return false }
        return text.contains("home node") && text.contains("is down")
    }
}
