import AMQPPool

/// Whether a worker declares the queues it needs.
public enum WorkerDeclarations: Sendable, Hashable {
    /// What is there already is taken as it is; what is missing is declared.
    case missing
    /// Nothing: somebody else has declared all of it. A worker that finds something missing says what, and waits.
    case nothing
}

/// A queue in which messages wait for their next attempt.
struct DelayQueue: Sendable, Hashable {
    /// The broker's timers end there.
    static let longest = Duration.seconds(4_294_967)

    let name: String
    let milliseconds: Int64

    init(_ delay: Duration, of queue: String) {
        let (seconds, attoseconds) = min(max(delay, .milliseconds(1)), Self.longest).components
        milliseconds = max(1, seconds * 1000 + attoseconds / 1_000_000_000_000_000)
        name = "\(queue).retry.\(milliseconds)"
    }

    static func isOne(_ name: String, of queue: String) -> Bool { name.hasPrefix("\(queue).retry.") }

    /// A pause that an error asks for: rounded up, so that there are not as many queues as pauses.
    static func rounded(_ delay: Duration) -> Duration {
        var step = Duration.seconds(1)
        while step < longest {
            for factor in [1, 2, 5] where step * factor >= delay { return min(step * factor, longest) }
            step = step * 10
        }
        return longest
    }
}

/// The names of a worker's queues, and their declaration.
struct WorkerTopology: Sendable {
    let queue: String
    let type: QueueArguments.QueueType
    let deliveryLimit: Int
    let retry: WorkerRetry
    let declares: WorkerDeclarations
    /// Where messages come from, beyond the default exchange.
    var bindings: [(exchange: String, routingKey: String)] = []
    /// For this process only, and gone with it.
    var isTransient = false
    /// Where failed messages go instead of `<queue>.failed`.
    var keepsFailedIn: String?

    /// Where messages are kept that could not be handled.
    var failed: String { keepsFailedIn ?? "\(queue).failed" }
    /// Where messages are kept whose type nobody handles.
    var unhandled: String { "\(queue).unhandled" }

    /// The queues for pauses of the retry policy.
    var delays: [DelayQueue] {
        var names: Set<String> = []
        return retry.pauses.filter { $0 >= WorkerPolicy.longestPauseHere }.map { DelayQueue($0, of: queue) }
            .filter { names.insert($0.name).inserted }
    }

    var queueArguments: QueueArguments {
        var arguments = QueueArguments(type: type)
        guard type != .stream else { return arguments }
        arguments.deadLetterExchange = ""
        arguments.deadLetterRoutingKey = failed
        if type == .quorum {
            arguments.deliveryLimit = deliveryLimit
            // What goes over the limit must not get lost on its way.
            arguments.deadLetterStrategy = .atLeastOnce
            arguments.overflow = .rejectPublish
        }
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

    /// Of a queue in which messages are kept. From RabbitMQ 4.0 on a quorum queue that says nothing drops what was looked at 20 times.
    private static var keeping: QueueArguments {
        var arguments = QueueArguments(type: .quorum)
        arguments.deliveryLimit = 1_000_000_000
        return arguments
    }

    /// The queues beside the worker's own.
    private var sideQueues: [(name: String, arguments: QueueArguments)] {
        var queues = [(failed, Self.keeping)]
        guard type != .stream else { return queues }
        for delay in delays { queues.append((delay.name, arguments(of: delay))) }
        return queues
    }

    /// Makes sure that everything is there. The queue itself is declared last: what it dead-letters must have a place.
    func ensure(on pool: AMQPPool, unhandled needsUnhandled: Bool) async throws {
        var missing: [String] = []
        var queues = sideQueues
        if needsUnhandled { queues.append((unhandled, Self.keeping)) }
        queues.append((queue, queueArguments))
        for (name, arguments) in queues where try await !exists(name, on: pool) {
            if declares == .nothing {
                missing.append(name)
            } else {
                try await declare(name, arguments, on: pool)
            }
        }
        guard missing.isEmpty else { throw WorkerError.missingQueues(missing, of: queue) }
        guard declares == .missing, !bindings.isEmpty else { return }
        try await pool.withDedicatedChannel { channel in
            for (exchange, routingKey) in bindings {
                try await channel.declareExchange(exchange, type: .topic, durable: true)
                try await channel.bindQueue(queue, to: exchange, routingKey: routingKey)
            }
        }
    }

    /// Whether this is one of the queues beside the worker's own.
    func owns(_ name: String) -> Bool { name == failed || name == unhandled || DelayQueue.isOne(name, of: queue) }

    /// A copy whose headers are too large for a frame with what we have added: without that, and kept, since nothing would count its attempts.
    func bare(_ forward: Forward) -> Forward {
        var bare = forward
        for header in MessageHeader.allCases { bare.properties.headers[header.rawValue] = nil }
        if DelayQueue.isOne(forward.routingKey, of: queue) { bare.routingKey = failed }
        return bare
    }

    /// Makes sure of one of the queues beside the worker's own, if it may be declared.
    func ensure(side name: String, on pool: AMQPPool) async throws {
        guard declares == .missing, try await !exists(name, on: pool) else { return }
        let milliseconds = name.split(separator: ".").last.flatMap { Int64($0) }
        if DelayQueue.isOne(name, of: queue), let milliseconds {
            try await declare(name, arguments(of: DelayQueue(.milliseconds(milliseconds), of: queue)), on: pool)
        } else {
            try await declare(name, Self.keeping, on: pool)
        }
    }

    /// What is wrong with the name of a worker's queue, if anything. Others are made of it, by what is appended.
    static func problem(of queue: String) -> String? {
        if queue.isEmpty { return "a queue needs a name: the broker would make one up, and nobody could publish to it" }
        let longest = 255 - "\(DelayQueue(DelayQueue.longest, of: "").name)".utf8.count
        if queue.utf8.count > longest {
            return
                "the name of a worker's queue has at most \(longest) bytes, and this one \(queue.utf8.count): \(queue.prefix(50))..."
        }
        return nil
    }

    private func declare(_ name: String, _ arguments: QueueArguments, on pool: AMQPPool) async throws {
        var arguments = arguments
        // Nobody is left to delete it. What failed stays.
        if isTransient, name == queue { arguments.expires = Self.transientLife }
        try await pool.withDedicatedChannel { [arguments] channel in
            _ = try await channel.declareQueue(name, arguments: arguments)
        }
    }

    /// How long the queues of an instance are there without it.
    private static let transientLife = Duration.seconds(600)

    /// A missing queue ends the channel it is asked for on, so each has its own.
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
    /// These queues are not there, and the worker may not declare them.
    case missingQueues([String], of: String)
    /// A setting cannot be meant.
    case invalidSetting(String)
    /// What a handler published with ``WorkerContext/publish(_:to:)`` was not accepted. The message is tried again.
    case notPublished(to: String, reason: String)
    /// A handler took longer than ``WorkerConfiguration/handlerTimeLimit``.
    case timeLimitExceeded(Duration)
    /// The message cannot be decoded.
    case undecodable(String)
    /// The message was delivered this often, and no attempt came to an end.
    case deliveredTooOften(Int)

    /// What is wrong, and what to do about it.
    public var description: String {
        switch self {
        case .missingQueues(let names, let queue):
            "the worker of \"\(queue)\" declares nothing, and these queues are missing: \(names.joined(separator: ", "))"
        case .invalidSetting(let problem): problem
        case .notPublished(let destination, let reason): "publishing to \(destination) failed: \(reason)"
        case .timeLimitExceeded(let limit): "no end within \(limit)"
        case .undecodable(let reason): "undecodable: \(reason)"
        case .deliveredTooOften(let count): "delivered \(count) times without an end"
        }
    }
}
