public import Supervision

/// The settings of a ``Consumer``.
public struct ConsumerConfiguration: Sendable {
    /// How many deliveries are handled at once, at least 1. Default 10.
    public var concurrency = 10
    /// How many deliveries the broker may have handed over that are not acknowledged; at least 1. What is over the
    /// concurrency waits here, and is memory. Default: the concurrency.
    public var prefetch: UInt16?
    /// What becomes of a message whose handler throws. Default: once more, then rejected.
    public var onFailure = DeliveryFailurePolicy.requeueOnce
    /// How long a message that failed waits before it is tried again. Default: 100 ms to 5 s, the last half of it random.
    public var retryBackoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 0.5)
    /// How long to wait before consuming is tried again, after a channel was lost, the broker cancelled the consumer, or the
    /// queue was not there. Default: 100 ms to 5 s, the last half of it random.
    public var reopenBackoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 0.5)
    /// How long a consumer that is stopped waits for the handlers that run. Then they are cancelled, and the broker delivers
    /// their messages again. Default 30 s.
    public var drainTimeout: Duration = .seconds(30)
    /// Whether nobody else may consume the queue. A consumer that finds it taken waits, and takes over.
    public var exclusive = false
    /// The broker's extensions, as a priority.
    public var arguments = ConsumerArguments()
    /// What to do while the queue is not there. Default: wait for it.
    public var missingQueue = MissingQueuePolicy.wait

    /// The defaults.
    public init() {}

    /// What is wrong with these settings, if anything.
    var problem: String? {
        if let problem = retryBackoff.problem { return "retryBackoff: \(problem)" }
        if let problem = reopenBackoff.problem { return "reopenBackoff: \(problem)" }
        return nil
    }

    var effectivePrefetch: UInt16 { max(1, prefetch ?? UInt16(clamping: concurrency)) }
}
