import AMQPPool
import Synchronization

/// Counts the outcomes of a worker's messages.
final class WorkerCounters: Sendable {
    private let state = Mutex(WorkerCounts())

    var counts: WorkerCounts { state.withLock { $0 } }

    func count(_ change: (inout sending WorkerCounts) -> Void) { state.withLock { change(&$0) } }
}
