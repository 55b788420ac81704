public import AMQPPool

/// The settings of a worker.
public struct WorkerConfiguration: Sendable {
    /// How many messages, or batches, are handled concurrently. Default 10.
    public var concurrency: Int
    /// The maximum number of unsettled messages. Default: the number handled concurrently.
    public var prefetch: UInt16?
    /// The time limit of a handler. After that it is cancelled, and its message is retried as after an error. Default one minute.
    public var handlerTimeLimit: Duration
    /// How long a worker that is asked to stop waits for running handlers. Default 30 s.
    public var drainTimeout: Duration
    /// What a worker that is asked to stop does with messages that were not started.
    public var atStop: AtStop
    /// Whether it declares what it needs. Default: what is missing.
    public var declares: WorkerDeclarations
    /// The type of the worker's queue when it declares it. Default: a quorum queue. A `.stream` without an offset begins with the next
    /// published message: see ``streamStart``.
    public var queueType: QueueArguments.QueueType
    /// The total number of deliveries of a message without the end of its handler: the limit of a declared quorum queue, also checked
    /// before a handler runs. Default 20.
    public var deliveryLimit: Int
    /// How many messages may start per interval. Default: no limit.
    public var rate: DeliveryRate?
    /// Pauses the worker when too many messages fail. Default: none.
    public var killSwitch: KillSwitch?
    /// Recognises messages that have been handled, by their message ids. Default: none.
    public var deduplication: WorkerDeduplication?
    /// Decides about errors that are not ``DecidingError``s; `nil` leaves the decision to the retry policy.
    public var onFailure: @Sendable (any Error, WorkerContext) -> FailureDecision?
    /// The interceptors of messages; the first is the outermost.
    public var interceptors: [any WorkerInterceptor]
    /// Receives the events of the worker. It must not block.
    public var onEvent: @Sendable (WorkerEvent) -> Void
    /// Where streams begin, and other extensions of the broker.
    public var arguments: ConsumerArguments
    /// Returns where to begin in a stream, each time the worker starts, including after a crash. `nil`: at the offset of the ``arguments``,
    /// which is the same each time. An error ends the worker.
    public var streamStart: (@Sendable () async throws -> ConsumerArguments.StreamOffset?)?
    /// Called with the offset at which to continue in a stream, whenever that changes: store it, and return it from ``streamStart``.
    public var onStreamOffset: @Sendable (Int64) -> Void
    /// Whether nobody else may consume the queue.
    public var exclusive: Bool
    /// Whether messages of one key wait while one of them waits for its next attempt. Default true, which keeps their order; that attempt
    /// is then made locally instead of through the broker. If false, the others overtake it.
    public var retriesBlockKey: Bool

    /// Creates a configuration. Each parameter sets the property of its name.
    public init(
        concurrency: Int = 10,
        prefetch: UInt16? = nil,
        handlerTimeLimit: Duration = .seconds(60),
        drainTimeout: Duration = .seconds(30),
        atStop: AtStop = AtStop.giveBack,
        declares: WorkerDeclarations = WorkerDeclarations.missing,
        queueType: QueueArguments.QueueType = QueueArguments.QueueType.quorum,
        deliveryLimit: Int = 20,
        rate: DeliveryRate? = nil,
        killSwitch: KillSwitch? = nil,
        deduplication: WorkerDeduplication? = nil,
        onFailure: @escaping @Sendable (any Error, WorkerContext) -> FailureDecision? = { _, _ in nil },
        interceptors: [any WorkerInterceptor] = [],
        onEvent: @escaping @Sendable (WorkerEvent) -> Void = { _ in },
        arguments: ConsumerArguments = ConsumerArguments(),
        streamStart: (@Sendable () async throws -> ConsumerArguments.StreamOffset?)? = nil,
        onStreamOffset: @escaping @Sendable (Int64) -> Void = { _ in },
        exclusive: Bool = false,
        retriesBlockKey: Bool = true
    ) {
        self.concurrency = concurrency
        self.prefetch = prefetch
        self.handlerTimeLimit = handlerTimeLimit
        self.drainTimeout = drainTimeout
        self.atStop = atStop
        self.declares = declares
        self.queueType = queueType
        self.deliveryLimit = deliveryLimit
        self.rate = rate
        self.killSwitch = killSwitch
        self.deduplication = deduplication
        self.onFailure = onFailure
        self.interceptors = interceptors
        self.onEvent = onEvent
        self.arguments = arguments
        self.streamStart = streamStart
        self.onStreamOffset = onStreamOffset
        self.exclusive = exclusive
        self.retriesBlockKey = retriesBlockKey
    }

    /// What a worker that is asked to stop does with messages that were not started.
    public enum AtStop: Sendable, Hashable {
        /// They are returned to the broker, for another worker.
        case giveBack
        /// They are handled, within the drain timeout.
        case finish
    }

    /// The first problem with these values, `nil` if they are valid.
    func problem(with retry: WorkerRetry, batchSize: Int) -> String? {
        let problems = [
            retry.problem, rate?.problem, killSwitch?.problem, deduplication?.problem,
            Self.problem(ofConcurrency: concurrency), Self.problem(ofPrefetch: prefetch, batchSize),
        ]
        if let problem = problems.lazy.compactMap({ $0 }).first { return problem }
        if handlerTimeLimit <= .zero { return "handlerTimeLimit must be longer than zero, not \(handlerTimeLimit)" }
        if drainTimeout < .zero { return "drainTimeout must not be negative, but is \(drainTimeout)" }
        return deliveryLimit < 1 ? "deliveryLimit must be at least 1, not \(deliveryLimit)" : nil
    }

    static func problem(ofConcurrency concurrency: Int) -> String? {
        concurrency < 1 ? "concurrency must be at least 1, not \(concurrency)" : nil
    }

    static func problem(ofPrefetch prefetch: UInt16?, _ batchSize: Int) -> String? {
        guard let prefetch else { return nil }
        if prefetch == 0 { return "prefetch must be at least 1" }
        return Int(prefetch) < batchSize
            ? "with a prefetch of \(prefetch) no batch ever has \(batchSize) messages: set it to \(batchSize) at least, or leave it nil"
            : nil
    }
}

/// How a worker remembers messages that it has handled.
///
/// The memory belongs to one incarnation of one worker: it recognises messages that a publisher sent twice or the broker redelivers, not
/// those that another worker has handled. A message without an id is never recognised.
public struct WorkerDeduplication: Sendable, Hashable {
    /// The maximum number of stored ids. Default 10,000.
    public var maximumEntries: Int
    /// The maximum age of a stored id. Default 10 minutes.
    public var maximumAge: Duration

    /// Creates limits for the stored ids.
    public init(maximumEntries: Int = 10_000, maximumAge: Duration = .seconds(600)) {
        self.maximumEntries = maximumEntries
        self.maximumAge = maximumAge
    }

    var problem: String? {
        if maximumEntries < 1 { return "maximumEntries of a deduplication must be at least 1, not \(maximumEntries)" }
        if maximumAge <= .zero { return "maximumAge of a deduplication must be longer than zero, not \(maximumAge)" }
        return nil
    }
}

/// An event in the life of a worker.
public enum WorkerEvent: Sendable {
    /// It consumes the queue.
    case consuming(queue: String)
    /// It has handled all current messages.
    case idle
    /// Too many messages failed, and nothing starts for this long; `nil`: ``QueueWorker/pause()`` was called.
    case paused(for: Duration?)
    /// It has resumed after a pause.
    case resumed
    /// The queue, or another one that it needs, does not exist. It retries.
    case missing(queue: String, reason: String)
    /// It cannot consume, and retries.
    case interrupted(queue: String, reason: String)
    /// It no longer works on the queue.
    case removed(queue: String)
    /// A message will be retried.
    case retried(messageID: String?, attempt: Int, error: any Error)
    /// A message was given up.
    case gaveUp(messageID: String?, decision: FailureDecision, reason: String)
    /// The number of handlers that are running after they were cancelled.
    case zombies(Int)
}

/// Wraps the messages of a worker.
///
/// The interceptors of a batch's messages run concurrently: the batch begins when the last of them has called `next` or ended without, and
/// `next` returns when the batch has ended, or throws the error of that message. A resource that an interceptor holds meanwhile is held for
/// the whole batch.
public protocol WorkerInterceptor: Sendable {
    /// Wraps one message.
    ///
    /// - Parameters:
    ///   - context: The handler's context: headers, body, attempt.
    ///   - next: The rest of the chain. Without calling it, the interceptor handles the message itself.
    /// - Throws: As a handler does.
    func intercept(
        _ context: WorkerContext,
        next: @Sendable () async throws -> Void
    ) async throws
}
