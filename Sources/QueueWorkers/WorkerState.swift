import AMQPPool
import Supervision
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
