import ConcurrencyPrimitives
import Synchronization

/// Counts the activity in a tree: supervisors with an operation under way, processes that are ending and, separately, supervisors that only
/// wait for the delay of a restart.
///
/// Without activity the tree is settled, and the waiting callers are resumed; nothing polls.
final class TreeActivity: Sendable {
    // Both counts in one number, so that they change atomically: the working ones in the lower half, the delaying ones in the upper half.
    // Every start and exit changes it, so it is an atomic; only waiting callers need the monitor.
    private let counts = Atomic<Int64>(0)
    private let waiting = Atomic<Int>(0)
    private let waiters = Monitor(())

    /// A process begins to end.
    func begin() {
        change(from: .idle, to: .working)
    }

    /// The process has ended.
    func end() {
        change(from: .working, to: .idle)
    }

    func change(from old: SupervisorCore.Activity, to new: SupervisorCore.Activity) {
        counts.add(TreeActivity.weight(new) - TreeActivity.weight(old), ordering: .sequentiallyConsistent)
        // A waiting caller is counted before it reads the counts, so either it sees this change or this thread sees the caller.
        if waiting.load(ordering: .sequentiallyConsistent) > 0 { waiters.change { _ in } }
    }

    private static let delaying: Int64 = 1 << 32

    private static func weight(_ activity: SupervisorCore.Activity) -> Int64 {
        switch activity {
        case .idle: 0
        case .delaying: delaying
        case .working: 1
        }
    }

    private func isSettled(_ includesDelays: Bool) -> Bool {
        let counts = counts.load(ordering: .sequentiallyConsistent)
        return includesDelays ? counts == 0 : counts % TreeActivity.delaying == 0
    }

    /// Returns true when nothing is under way, and with `includingDelays` no restart waits for its delay; false when the waiting
    /// task is cancelled before.
    func settled(includingDelays: Bool) async -> Bool {
        waiting.add(1, ordering: .sequentiallyConsistent)
        defer { waiting.subtract(1, ordering: .sequentiallyConsistent) }
        do throws(WaitFailure) {
            return try await waiters.wait { [self] _ in isSettled(includingDelays) ? true : nil }
        } catch {
            return false
        }
    }
}

extension Supervisor {
    /// Waits until nothing is under way in the tree: no operation of a supervisor, no process that is ending and, with `includingDelays`,
    /// no restart that waits for its delay. Nothing polls. Returns false when the waiting task is cancelled.
    func settled(includingDelays: Bool = false) async -> Bool {
        guard let current else { return true }
        return await current.environment.activity.settled(includingDelays: includingDelays)
    }
}
