import DequeModule
package import Logging
package import Supervision
import Synchronization

/// Writes the log lines that a ``BrokerStory`` decides on, in the order of the events. One object for the life of a pool, caller, receiver
/// or worker, over all incarnations of its tree.
package final class BrokerLog: Sendable {
    private struct State {
        var story: BrokerStory
        var logger: Logger
        var unwritten = UnwrittenLines()
        var isWriting = false
    }

    private let state: Mutex<State>
    /// Additional metadata of lines about a connection.
    private let details: @Sendable () -> Logger.Metadata
    /// The number of messages in work when it begins to stop.
    private let inWork: @Sendable () -> Int?

    package init(
        _ subject: BrokerStory.Subject,
        logger: Logger,
        details: @escaping @Sendable () -> Logger.Metadata = { [:] },
        inWork: @escaping @Sendable () -> Int? = { nil }
    ) {
        state = Mutex(State(story: BrokerStory(subject), logger: logger))
        self.details = details
        self.inWork = inWork
    }

    /// Sets the logger of the tree it runs in.
    func use(_ logger: Logger) {
        state.withLock { $0.logger = logger }
    }

    /// The number of working connections or queues.
    var up: Int { state.withLock { $0.story.up } }

    /// Whether it is stopping.
    package var isStopping: Bool { state.withLock { $0.story.isStopping } }

    /// Follows the life phases of its top supervisor.
    package func follow(_ phase: LifePhase, _ logger: Logger) {
        use(logger)
        switch phase {
        case .started: handle(.started)
        case .stopping: handle(.stopping(inWork: inWork()))
        case .ended(let reason): handle(.stopped(reason))
        }
    }

    /// A connection works and is in use.
    func up(_ connection: AMQPConnection, number: Int?, also more: Logger.Metadata = [:]) {
        let place = connection.place.merging(details()) { $1 }.merging(more) { $1 }
        handle(.up(number: number, place: place))
    }

    package func handle(_ event: BrokerStory.Event) {
        let writes = state.withLock { state in
            let logger = state.logger
            for line in state.story.handle(event, at: .now) where line.level >= logger.logLevel {
                state.unwritten.append(line, to: logger)
            }
            guard !state.isWriting, !state.unwritten.isEmpty else { return false }
            state.isWriting = true
            return true
        }
        // Outside the lock, one after the other: a log handler may be slow, or may itself use the broker.
        while writes {
            let next = state.withLock { state -> (Logger, BrokerStory.Line)? in
                let next = state.unwritten.next(of: state.story.subject)
                if next == nil { state.isWriting = false }
                return next
            }
            guard let (logger, line) = next else { return }
            logger.log(level: line.level, "\(line.message)", metadata: line.metadata.escaped)
        }
    }
}

/// Lines that wait for a slow log handler: the newest ``limit``, and the number of dropped older ones.
private struct UnwrittenLines {
    static let limit = 256

    private var lines: Deque<(Logger, BrokerStory.Line)> = []
    private var leftOut: (count: Int, logger: Logger)?

    var isEmpty: Bool { lines.isEmpty && leftOut == nil }

    mutating func append(_ line: BrokerStory.Line, to logger: Logger) {
        if lines.count == Self.limit, let (logger, _) = lines.popFirst() {
            leftOut = ((leftOut?.count ?? 0) + 1, logger)
        }
        lines.append((logger, line))
    }

    /// The oldest line, or a replacement for the dropped ones before it.
    mutating func next(of subject: BrokerStory.Subject) -> (Logger, BrokerStory.Line)? {
        guard let (count, logger) = leftOut else { return lines.popFirst() }
        leftOut = nil
        let line = BrokerStory.Line(
            level: .warning,
            message: "\(subject.kind) dropped log lines: the log handler is too slow",
            metadata: [subject.kind: "\(subject.name)", "suppressed": "\(count)"]
        )
        return (logger, line)
    }
}

extension AMQPConnection {
    /// The endpoint and user of the connection, as log metadata.
    nonisolated var place: Logger.Metadata {
        let broker = broker
        return [
            "endpoint": "\(endpoint.redacted)",
            "user": "\(username)",
            "broker": "\(broker.product ?? "unknown") \(broker.version ?? "")",
        ]
    }
}
