import AMQPPool
public import Supervision
import Synchronization

/// The state of a worker.
public enum WorkerState: Sendable, Hashable {
    /// It is running, but not consuming all of its queues: there is no connection, or a queue is missing.
    case waiting
    /// It is consuming all its queues.
    case consuming
    /// ``QueueWorker/pause()`` was called.
    case paused
    /// It accepts no more messages, and finishes those it has.
    case stopping
}

extension QueueWorker: HealthReporting {
    /// The current state, read without an actor hop.
    public nonisolated var state: WorkerState {
        if log.isStopping { return .stopping }
        if pausing.load(ordering: .relaxed) { return .paused }
        let (consumed, all) = consumedQueues
        return all > 0 && consumed == all ? .consuming : .waiting
    }

    /// Whether it is consuming all its queues.
    public nonisolated var isReady: Bool { state == .consuming }

    /// Whether it works, and why not. Use it through a reference: `Health(of: pool, try shop.child("orders", as: QueueWorker.self))`.
    public nonisolated var health: Health.Part {
        switch state {
        case .consuming: .ready(path)
        case .waiting:
            .notReady(
                path,
                why: """
                    \(consumedQueues.count) of \(consumedQueues.all) queues are consumed; \
                    \(pool.health.why ?? "the pool is ready")
                    """
            )
        case .paused: .notReady(path, why: "paused")
        case .stopping: .notReady(path, why: "stopping")
        }
    }
}
