public import Supervision

/// The settings of a ``Consumer``.
public struct ConsumerConfiguration: Sendable {
    /// How many deliveries are handled concurrently, at least 1. Default 10.
    public var concurrency: Int
    /// The maximum number of unacknowledged deliveries, at least 1. Deliveries beyond the concurrency are buffered in memory. Default: the
    /// concurrency.
    public var prefetch: UInt16?
    /// What happens to a message whose handler throws. Default: it is retried once, then rejected.
    public var onFailure: DeliveryFailurePolicy
    /// The time limit of a handler. After that its task is cancelled, its slot is free, and ``onFailure`` decides about the message.
    /// Default 10 minutes; with `nil` there is no limit, except that the broker closes the channel (`consumer_timeout`, 30 minutes).
    public var handlerTimeLimit: Duration?
    /// Where a message is published that would otherwise be rejected, with the reason in its headers `failure-reason` and `failure-queue`.
    /// Default: nowhere; the queue's own dead letter exchange gets it, if there is one.
    public var deadLetters: DeadLetterAddress?
    /// How long a failed message waits before it is retried. Default: 100 ms to 5 s, of which the last half is random.
    public var retryBackoff: Backoff
    /// How long to wait before consuming again after a channel was lost, the broker cancelled the consumer, or the queue was missing.
    /// Default: 100 ms to 5 s, of which the last half is random.
    public var reopenBackoff: Backoff
    /// How long a consumer that is asked to stop waits for running handlers. After that they are cancelled, and the broker redelivers their
    /// messages. Default 30 s.
    public var drainTimeout: Duration
    /// Whether nobody else may consume the queue. If another consumer has it, this one waits and takes over.
    public var exclusive: Bool
    /// The type of the queue. Default: determined from ``ConsumerArguments/streamOffset``, the declarations of `onOpen`, or the deliveries.
    public var queueType: QueueArguments.QueueType?
    /// Extensions of the broker, for example a priority.
    public var arguments: ConsumerArguments
    /// What to do while the queue does not exist. Default: wait for it.
    public var missingQueue: MissingQueuePolicy

    /// Creates a configuration. Each parameter sets the property of its name.
    public init(
        concurrency: Int = 10,
        prefetch: UInt16? = nil,
        onFailure: DeliveryFailurePolicy = DeliveryFailurePolicy.requeueOnce,
        handlerTimeLimit: Duration? = .seconds(600),
        deadLetters: DeadLetterAddress? = nil,
        retryBackoff: Backoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 0.5),
        reopenBackoff: Backoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 0.5),
        drainTimeout: Duration = .seconds(30),
        exclusive: Bool = false,
        queueType: QueueArguments.QueueType? = nil,
        arguments: ConsumerArguments = ConsumerArguments(),
        missingQueue: MissingQueuePolicy = MissingQueuePolicy.wait
    ) {
        self.concurrency = concurrency
        self.prefetch = prefetch
        self.onFailure = onFailure
        self.handlerTimeLimit = handlerTimeLimit
        self.deadLetters = deadLetters
        self.retryBackoff = retryBackoff
        self.reopenBackoff = reopenBackoff
        self.drainTimeout = drainTimeout
        self.exclusive = exclusive
        self.queueType = queueType
        self.arguments = arguments
        self.missingQueue = missingQueue
    }

    /// Throws if a setting is invalid.
    func check() throws(AMQPError) {
        for (name, backoff) in [("retryBackoff", retryBackoff), ("reopenBackoff", reopenBackoff)] {
            if let problem = backoff.problem { throw .invalidArgument("\(name): \(problem)") }
        }
        if let handlerTimeLimit, handlerTimeLimit <= .zero {
            throw .invalidArgument("handlerTimeLimit must be longer than zero, not \(handlerTimeLimit)")
        }
    }

    var effectivePrefetch: UInt16 { max(1, prefetch ?? UInt16(clamping: concurrency)) }
}

/// The destination of messages that a consumer gives up.
public struct DeadLetterAddress: Sendable, Hashable {
    /// The exchange; empty for the default exchange, which routes by queue name.
    public var exchange: String
    /// The routing key.
    public var routingKey: String

    /// Creates an address from an exchange and a routing key.
    public init(exchange: String = "", routingKey: String) {
        self.exchange = exchange
        self.routingKey = routingKey
    }
}
