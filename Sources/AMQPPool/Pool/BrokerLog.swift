package import Logging
package import Supervision
import Synchronization

/// Writes what a ``BrokerStory`` decides, in the order of the events. One for the life of a pool, caller, receiver or worker, over all
/// incarnations of its tree.
package final class BrokerLog: Sendable {
    private struct State {
        var story: BrokerStory
        var logger: Logger
        var unwritten: [(Logger, BrokerStory.Line)] = []
        var isWriting = false
    }

    private let state: Mutex<State>
    /// What a line that says where it is connected to says beside that.
    private let details: @Sendable () -> Logger.Metadata
    /// How much is in work, when it begins to stop.
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

    /// Writes into this from now on: the logger of the tree that it runs in.
    package func use(_ logger: Logger) {
        state.withLock { $0.logger = logger }
    }

    /// How many of its connections, or queues, work now.
    package var up: Int { state.withLock { $0.story.up } }

    /// Whether it is on its way out.
    package var isStopping: Bool { state.withLock { $0.story.isStopping } }

    /// What became of the supervisor that all of it is under.
    package func follow(_ phase: LifePhase, _ logger: Logger) {
        use(logger)
        switch phase {
        case .started: handle(.started)
        case .stopping: handle(.stopping(inWork: inWork()))
        case .ended(let reason): handle(.stopped(reason))
        }
    }

    /// A connection works, and something is done on it.
    func up(_ connection: AMQPConnection, number: Int?, also more: Logger.Metadata = [:]) {
        let place = connection.place.merging(details()) { $1 }.merging(more) { $1 }
        handle(.up(number: number, place: place))
    }

    package func handle(_ event: BrokerStory.Event) {
        let writes = state.withLock { state in
            let logger = state.logger
            state.unwritten += state.story.handle(event, at: .now).map { (logger, $0) }
            guard !state.isWriting, !state.unwritten.isEmpty else { return false }
            state.isWriting = true
            return true
        }
        // Outside of the lock, and one after the other: a handler of logs may be slow, or need the broker itself.
        while writes {
            let next = state.withLock { state -> (Logger, BrokerStory.Line)? in
                if state.unwritten.isEmpty {
                    state.isWriting = false
                    return nil
                }
                return state.unwritten.removeFirst()
            }
            guard let (logger, line) = next else { return }
            logger.log(level: line.level, "\(line.message)", metadata: line.metadata)
        }
    }
}

extension AMQPConnection {
    /// Where it is connected to, and as whom, for the log.
    package nonisolated var place: Logger.Metadata {
        let broker = broker
        return [
            "endpoint": "\(endpoint.redacted)",
            "user": "\(username)",
            "broker": "\(broker.product ?? "unknown") \(broker.version ?? "")",
        ]
    }
}
