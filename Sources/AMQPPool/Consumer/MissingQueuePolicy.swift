/// What a consumer does when the broker does not have its queue, or something else that it needs (404).
///
/// That may be temporary: another service declares the queue when it starts, and a durable classic queue is not found while its node is
/// down (``AMQPError/isQueueNodeDown``; brokers from 4.0 on do not answer then, which counts as missing here). Each attempt opens a
/// channel, which the broker closes, and logs a warning.
public enum MissingQueuePolicy: Sendable, Hashable {
    /// Retries without a limit, with the ``ConsumerConfiguration/reopenBackoff``.
    case wait
    /// Retries for this long since the queue was last there, then throws the ``AMQPError``: a ``Consumer`` ends with it, and its supervisor
    /// handles that as a crash.
    case fail(after: Duration)
}

extension AMQPError {
    /// Whether this is the broker's answer about a durable classic queue whose node is down: the queue exists, cannot be declared (404),
    /// and comes back with its messages when its node does.
    ///
    /// RabbitMQ answers like this up to 3.13. From 4.0 on it does not answer until the node is back: declaring and consuming fail with
    /// ``timedOut(operation:after:)``, and published messages are nacked; this property is false then.
    public var isQueueNodeDown: Bool {
        guard case .channelClosedByBroker(code: 404, let text) = cause else { return false }
        return text.contains("home node") && text.contains("is down")
    }
}
