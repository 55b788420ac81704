public import Supervision

/// The settings of a ``Consumer``.
public struct ConsumerConfiguration: Sendable {
    /// How many deliveries are handled at once, at least 1. Default 10.
    public var concurrency: Int
    /// How many deliveries the broker may have handed over that are not acknowledged; at least 1. What is over the
    /// concurrency waits here, and is memory. Default: the concurrency.
    public var prefetch: UInt16?
    /// What becomes of a message whose handler throws. Default: once more, then rejected.
    public var onFailure: DeliveryFailurePolicy
    /// How long a handler may take. Then its task is cancelled, its place is free, and ``onFailure`` decides about the message. Default
    /// 10 minutes; nil for any time, which leaves it to the broker (`consumer_timeout`, 30 minutes) to take the channel away.
    public var handlerTimeLimit: Duration?
    /// Where a message is published that is given up, in place of being rejected: with the reason in its headers `failure-reason` and
    /// `failure-queue`. Default: nowhere; the queue's own dead letter exchange gets it, if it has one.
    public var deadLetters: DeadLetterAddress?
    /// How long a message that failed waits before it is tried again. Default: 100 ms to 5 s, the last half of it random.
    public var retryBackoff: Backoff
    /// How long to wait before consuming is tried again, after a channel was lost, the broker cancelled the consumer, or the
    /// queue was not there. Default: 100 ms to 5 s, the last half of it random.
    public var reopenBackoff: Backoff
    /// How long a consumer that is stopped waits for the handlers that run. Then they are cancelled, and the broker delivers
    /// their messages again. Default 30 s.
    public var drainTimeout: Duration
    /// Whether nobody else may consume the queue. A consumer that finds it taken waits, and takes over.
    public var exclusive: Bool
    /// What the queue is. Default: what ``ConsumerArguments/streamOffset`` or the declarations of `onOpen` say, or else what its
    /// deliveries show.
    public var queueType: QueueArguments.QueueType?
    /// The broker's extensions, as a priority.
    public var arguments: ConsumerArguments
    /// What to do while the queue is not there. Default: wait for it.
    public var missingQueue: MissingQueuePolicy

    /// The defaults where nothing else is given. Each parameter is the property of its name.
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

    /// Throws if a setting cannot be meant.
    func check() throws(AMQPError) {
        for (name, backoff) in [("retryBackoff", retryBackoff), ("reopenBackoff", reopenBackoff)] {
            if let problem = backoff.problem { throw .invalidArgument("\(name): \(problem)") }
        }
        if let handlerTimeLimit, handlerTimeLimit <= .zero {
            throw .invalidArgument("handlerTimeLimit must be more than nothing, not \(handlerTimeLimit)")
        }
    }

    var effectivePrefetch: UInt16 { max(1, prefetch ?? UInt16(clamping: concurrency)) }
}

/// Where messages are published that a consumer gives up.
public struct DeadLetterAddress: Sendable, Hashable {
    /// The exchange; empty for the default exchange, which routes by queue name.
    public var exchange: String
    /// The routing key.
    public var routingKey: String

    /// This exchange, with this routing key.
    public init(exchange: String = "", routingKey: String) {
        self.exchange = exchange
        self.routingKey = routingKey
    }
}
