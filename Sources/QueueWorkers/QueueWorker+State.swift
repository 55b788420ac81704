import AMQPPool
public import Supervision
import Synchronization

/// How a worker is.
public enum WorkerState: Sendable, Hashable {
    /// It runs, and not all of its queues are consumed: the broker is gone, or a queue is missing.
    case waiting
    /// It gets messages of all its queues.
    case consuming
    /// ``QueueWorker/pause()`` was called.
    case paused
    /// It takes nothing more, and finishes what it has.
    case stopping
}

extension QueueWorker: HealthReporting {
    /// How it is now, asked without waiting for it.
    public nonisolated var state: WorkerState {
        if log.isStopping { return .stopping }
        if pausing.load(ordering: .relaxed) { return .paused }
        let (consumed, all) = consumedQueues
        return all > 0 && consumed == all ? .consuming : .waiting
    }

    /// Whether it gets messages of all its queues.
    public nonisolated var isReady: Bool { state == .consuming }

    /// Whether it works, and if not, why. Through its reference: `Health(of: pool, try shop.child("orders", as: QueueWorker.self))`.
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
