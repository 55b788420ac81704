import AMQPPool

/// Whether a worker declares the queues it needs.
public enum WorkerDeclarations: Sendable, Hashable {
    /// Existing queues are used as they are; missing ones are declared.
    case missing
    /// Nothing: all queues are declared elsewhere. A worker that misses one reports it, and waits.
    case nothing

    /// Whether what is missing may be declared.
    var declaresMissing: Bool {
        switch self {
        case .missing: true
        case .nothing: false
        }
    }
}

/// A queue in which messages wait for their next attempt.
struct DelayQueue: Sendable, Hashable {
    /// The maximum of the broker's timers.
    static let longest = Duration.seconds(4_294_967)

    let name: String
    let milliseconds: Int64

    init(_ delay: Duration, of queue: String) {
        let (seconds, attoseconds) = min(max(delay, .milliseconds(1)), Self.longest).components
        milliseconds = max(1, seconds * 1000 + attoseconds / 1_000_000_000_000_000)
        name = "\(queue).retry.\(milliseconds)"
    }

    static func isOne(_ name: String, of queue: String) -> Bool { name.hasPrefix("\(queue).retry.") }

    /// Rounds up a delay requested by an error, to limit the number of queues.
    static func rounded(_ delay: Duration) -> Duration {
        var step = Duration.seconds(1)
        while step < longest {
            for factor in [1, 2, 5] where step * factor >= delay { return min(step * factor, longest) }
            step = step * 10
        }
        return longest
    }
}

/// The names of a worker's queues, and their declarations.
struct WorkerTopology: Sendable {
    let queue: String
    let type: QueueArguments.QueueType
    let deliveryLimit: Int
    let retry: WorkerRetry
    let declares: WorkerDeclarations
    /// Additional bindings, besides the default exchange.
    var bindings: [(exchange: String, routingKey: String)] = []
    /// Whether the queue is deleted with this process.
    var isTransient = false
    /// The queue for failed messages instead of `<queue>.failed`.
    var keepsFailedIn: String?

    /// The queue for messages that could not be handled.
    var failed: String { keepsFailedIn ?? "\(queue).failed" }
    /// The queue for messages whose type has no handler.
    var unhandled: String { "\(queue).unhandled" }

    /// The queues for the delays of the retry policy.
    var delays: [DelayQueue] {
        var names: Set<String> = []
        return retry.pauses.filter { $0 >= WorkerPolicy.longestPauseHere }.map { DelayQueue($0, of: queue) }
            .filter { names.insert($0.name).inserted }
    }

    var queueArguments: QueueArguments {
        var arguments = QueueArguments(type: type)
        switch type {
        case .stream: return arguments
        case .classic: break
        case .quorum:
            arguments.deliveryLimit = deliveryLimit
            // Messages over the limit must not be lost on their way.
            arguments.deadLetterStrategy = .atLeastOnce
            arguments.overflow = .rejectPublish
        }
        arguments.deadLetterExchange = ""
        arguments.deadLetterRoutingKey = failed
        return arguments
    }

    func arguments(of delay: DelayQueue) -> QueueArguments {
        var arguments = QueueArguments(type: isTransient ? .classic : .quorum)
        arguments.messageTTL = .milliseconds(delay.milliseconds)
        arguments.deadLetterExchange = ""
        arguments.deadLetterRoutingKey = queue
        if !isTransient {
            arguments.deadLetterStrategy = .atLeastOnce
            arguments.overflow = .rejectPublish
        }
        return arguments
    }

    /// The arguments of a queue that keeps messages. Since RabbitMQ 4.0 a quorum queue without a limit drops messages that were read 20
    /// times.
    private static var keeping: QueueArguments {
        var arguments = QueueArguments(type: .quorum)
        arguments.deliveryLimit = 1_000_000_000
        return arguments
    }

    /// The queues besides the worker's own.
    private var sideQueues: [(name: String, arguments: QueueArguments)] {
        var queues = [(failed, Self.keeping)]
        guard !type.isStream else { return queues }
        for delay in delays { queues.append((delay.name, arguments(of: delay))) }
        return queues
    }

    /// Ensures that all queues exist. The worker's own queue is declared last, because its dead letters need a destination.
    func ensure(on pool: AMQPPool, unhandled needsUnhandled: Bool) async throws {
        var missing: [String] = []
        var queues = sideQueues
        if needsUnhandled { queues.append((unhandled, Self.keeping)) }
        queues.append((queue, queueArguments))
        for (name, arguments) in queues where try await !exists(name, on: pool) {
            if !declares.declaresMissing {
                missing.append(name)
            } else {
                try await declare(name, arguments, on: pool)
            }
        }
        guard missing.isEmpty else { throw WorkerError.missingQueues(missing, of: queue) }
        guard declares.declaresMissing, !bindings.isEmpty else { return }
        try await pool.withDedicatedChannel { channel in
            for (exchange, routingKey) in bindings {
                try await channel.declareExchange(exchange, type: .topic, durable: true)
                try await channel.bindQueue(queue, to: exchange, routingKey: routingKey)
            }
        }
    }

    /// Whether this is one of the queues besides the worker's own.
    func owns(_ name: String) -> Bool { name == failed || name == unhandled || DelayQueue.isOne(name, of: queue) }

    /// Removes our headers from a copy whose headers are too large for a frame with them, and parks it, because nothing would count its
    /// attempts.
    func bare(_ forward: Forward) -> Forward {
        var bare = forward
        for header in MessageHeader.allCases { bare.properties.headers[header.rawValue] = nil }
        if DelayQueue.isOne(forward.routingKey, of: queue) { bare.routingKey = failed }
        return bare
    }

    /// Ensures that one of the queues besides the worker's own exists, if it may be declared.
    func ensure(side name: String, on pool: AMQPPool) async throws {
        guard declares.declaresMissing, try await !exists(name, on: pool) else { return }
        let milliseconds = name.split(separator: ".").last.flatMap { Int64($0) }
        if DelayQueue.isOne(name, of: queue), let milliseconds {
            try await declare(name, arguments(of: DelayQueue(.milliseconds(milliseconds), of: queue)), on: pool)
        } else {
            try await declare(name, Self.keeping, on: pool)
        }
    }

    /// The problem with the name of a worker's queue, from which other names are derived; `nil` if it is valid.
    static func problem(of queue: String) -> String? {
        if queue.isEmpty {
            return "a queue needs a name: the broker would generate one, and nobody could publish to it"
        }
        let longest = 255 - "\(DelayQueue(DelayQueue.longest, of: "").name)".utf8.count
        if queue.utf8.count > longest {
            return
                "the name of a worker's queue has at most \(longest) bytes, and this one \(queue.utf8.count): \(queue.prefix(50))..."
        }
        return nil
    }

    private func declare(_ name: String, _ arguments: QueueArguments, on pool: AMQPPool) async throws {
        var arguments = arguments
        // Nobody else would delete it. The failed messages stay.
        if isTransient, name == queue { arguments.expires = Self.transientLife }
        try await pool.withDedicatedChannel { [arguments] channel in
            _ = try await channel.declareQueue(name, arguments: arguments)
        }
    }

    /// How long the queues of an instance exist without it.
    private static let transientLife = Duration.seconds(600)

    /// A check for a missing queue closes its channel, so each check has its own.
    private func exists(_ name: String, on pool: AMQPPool) async throws -> Bool {
        do {
            try await pool.withDedicatedChannel { _ = try await $0.declareQueue(name, passive: true) }
            return true
        } catch let error as AMQPError where error.replyCode == 404 {
            return false
        }
    }
}

/// Why a worker cannot work.
public enum WorkerError: Error, Sendable, Hashable, CustomStringConvertible {
    /// These queues do not exist, and the worker may not declare them.
    case missingQueues([String], of: String)
    /// A setting is invalid.
    case invalidSetting(String)
    /// A message published with ``WorkerContext/publish(_:to:)`` was not accepted. The handled message is retried.
    case notPublished(to: String, reason: String)
    /// A handler exceeded ``WorkerConfiguration/handlerTimeLimit``.
    case timeLimitExceeded(Duration)
    /// The message cannot be decoded.
    case undecodable(String)
    /// The message was delivered this often, and no attempt ended.
    case deliveredTooOften(Int)

    /// The error as a sentence, with the remedy.
    public var description: String {
        switch self {
        case .missingQueues(let names, let queue):
            "the worker of \"\(queue)\" declares nothing, and these queues are missing: \(names.joined(separator: ", "))"
        case .invalidSetting(let problem): problem
        case .notPublished(let destination, let reason): "publishing to \(destination) failed: \(reason)"
        case .timeLimitExceeded(let limit): "not finished within \(limit)"
        case .undecodable(let reason): "undecodable: \(reason)"
        case .deliveredTooOften(let count): "delivered \(count) times without completing"
        }
    }
}
