public import AMQPPool

/// The settings of a worker.
public struct WorkerConfiguration: Sendable {
    /// How many messages, or batches, are handled at once. Default 10.
    public var concurrency: Int
    /// How many messages the broker may have handed over that are not settled. Default: what is handled at once.
    public var prefetch: UInt16?
    /// How long a handler may take. Then it is cancelled, and its message is tried again as after an error. Default one minute.
    public var handlerTimeLimit: Duration
    /// How long a worker that is stopped waits for the handlers that run. Default 30 s.
    public var drainTimeout: Duration
    /// What a worker that is stopped does with messages that it has and has not begun.
    public var atStop: AtStop
    /// Whether it declares what it needs. Default: what is missing.
    public var declares: WorkerDeclarations
    /// What the worker's queue is when it declares it. Default: a quorum queue. A `.stream` that is told
    /// nothing begins with what is published next: see ``streamStart``.
    public var queueType: QueueArguments.QueueType
    /// How often a message may be delivered in all without an end of its handler: the limit of a quorum queue that is declared, and
    /// looked at before a handler runs. Default 20.
    public var deliveryLimit: Int
    /// How many messages may begin in a time. Default: any number.
    public var rate: DeliveryRate?
    /// Pauses the worker when too many messages fail. Default: none.
    public var killSwitch: KillSwitch?
    /// Recognises messages that were handled, by their message ids. Default: none.
    public var deduplication: WorkerDeduplication?
    /// Decides about errors that are not ``DecidingError``s; nil leaves it to the retry policy.
    public var onFailure: @Sendable (any Error, WorkerContext) -> FailureDecision?
    /// What stands around each message, the first outermost.
    public var interceptors: [any WorkerInterceptor]
    /// Hears what happens to the worker. It must not block.
    public var onEvent: @Sendable (WorkerEvent) -> Void
    /// Where streams begin, and other extensions of the broker.
    public var arguments: ConsumerArguments
    /// Asked where to begin with a stream, each time the worker starts: also after a crash. Nil: at the ``arguments``' offset, which is the same
    /// each time. An error ends the worker.
    public var streamStart: (@Sendable () async throws -> ConsumerArguments.StreamOffset?)?
    /// Called with the offset at which a stream is to be gone on with, whenever that moves: keep it, and have ``streamStart`` return it.
    public var onStreamOffset: @Sendable (Int64) -> Void
    /// Whether nobody else may consume the queue.
    public var exclusive: Bool
    /// Whether messages of one key wait while one of them waits for its next attempt. Default: they do, so that their order is kept; that
    /// attempt is then made here, and not by way of the broker. Without, the others pass it.
    public var retriesBlockKey: Bool

    /// The defaults where nothing else is given. Each parameter is the property of its name.
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

    /// What a worker that is stopped does with messages that it has and has not begun.
    public enum AtStop: Sendable, Hashable {
        /// Another worker gets them.
        case giveBack
        /// They are handled, within the drain timeout.
        case finish
    }

    /// What is wrong with these values, if anything.
    func problem(with retry: WorkerRetry, batchSize: Int) -> String? {
        let problems = [
            retry.problem, rate?.problem, killSwitch?.problem, deduplication?.problem,
            Self.problem(ofConcurrency: concurrency), Self.problem(ofPrefetch: prefetch, batchSize),
        ]
        if let problem = problems.lazy.compactMap({ $0 }).first { return problem }
        if handlerTimeLimit <= .zero { return "handlerTimeLimit must be more than nothing, not \(handlerTimeLimit)" }
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

/// What a worker remembers of messages that it has handled.
///
/// It is the memory of one incarnation of one worker: it recognises what a publisher sent twice or the broker delivers again, not what
/// another worker has handled. A message without an id is never recognised.
public struct WorkerDeduplication: Sendable, Hashable {
    /// How many ids are remembered. Default 10,000.
    public var maximumEntries: Int
    /// For how long. Default 10 minutes.
    public var maximumAge: Duration

    /// So many ids, for so long.
    public init(maximumEntries: Int = 10_000, maximumAge: Duration = .seconds(600)) {
        self.maximumEntries = maximumEntries
        self.maximumAge = maximumAge
    }

    var problem: String? {
        if maximumEntries < 1 { return "a deduplication remembers at least one entry, not \(maximumEntries)" }
        if maximumAge <= .zero { return "a deduplication remembers for longer than nothing, not \(maximumAge)" }
        return nil
    }
}

/// What happens to a worker.
public enum WorkerEvent: Sendable {
    /// It consumes the queue.
    case consuming(queue: String)
    /// It has handled everything that was there, for the moment.
    case idle
    /// Too many messages failed, and nothing begins for this long; nil: it was told to pause, until it is told to go on.
    case paused(for: Duration?)
    /// It goes on after that.
    case resumed
    /// The queue, or another that it needs, is not there. It tries again.
    case missing(queue: String, reason: String)
    /// It cannot consume, and tries again.
    case interrupted(queue: String, reason: String)
    /// It does not work on the queue any more.
    case removed(queue: String)
    /// A message is to be tried again.
    case retried(messageID: String?, attempt: Int, error: any Error)
    /// A message is given up.
    case gaveUp(messageID: String?, decision: FailureDecision, reason: String)
    /// So many handlers run on although they were cancelled.
    case zombies(Int)
}

/// Stands around the messages of a worker.
///
/// Those of a batch have theirs side by side: the batch begins when the last has called `next`, or has ended without, and `next` returns when
/// the batch has ended, or throws what went wrong with that message. What an interceptor holds meanwhile, it holds for the whole batch.
public protocol WorkerInterceptor: Sendable {
    /// Stands around one message.
    ///
    /// - Parameters:
    ///   - context: what the handler learns: headers, body, attempt.
    ///   - next: the rest of the way. Not calling it handles the message here.
    /// - Throws: as a handler.
    func intercept(
        _ context: WorkerContext,
        next: @Sendable () async throws -> Void
    ) async throws
}
