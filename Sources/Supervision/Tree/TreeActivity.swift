import ConcurrencyPrimitives

/// Counts the activity in a tree: supervisors with an operation under way, processes that are ending and, separately, supervisors that only
/// wait for the delay of a restart.
///
/// Without activity the tree is settled, and the waiting callers are resumed; nothing polls.
final class TreeActivity: Sendable {
    private struct Counts: Sendable {
        var working = 0
        var delaying = 0

        func isSettled(_ includesDelays: Bool) -> Bool {
            working == 0 && (!includesDelays || delaying == 0)
        }
    }

    private let counts = Monitor(Counts())

    /// A process begins to end.
    func begin() {
        change(from: .idle, to: .working)
    }

    /// The process has ended.
    func end() {
        change(from: .working, to: .idle)
    }

    func change(from old: SupervisorCore.Activity, to new: SupervisorCore.Activity) {
        counts.change { counts in
            switch old {
            case .idle: break
            case .delaying: counts.delaying -= 1
            case .working: counts.working -= 1
            }
            switch new {
            case .idle: break
            case .delaying: counts.delaying += 1
            case .working: counts.working += 1
            }
        }
    }

    /// Returns true when nothing is under way and, with `includingDelays`, no restart waits for its delay; false when the waiting task is
    /// cancelled first.
    func settled(includingDelays: Bool) async -> Bool {
        do throws(WaitFailure) {
            return try await counts.wait { $0.isSettled(includingDelays) ? true : nil }
        } catch {
            return false
        }
    }
}

extension Supervisor {
    /// Waits until nothing is under way in the tree: no operation of a supervisor, no process that is ending and, with `includingDelays`,
    /// no restart that waits for its delay. Nothing polls. Returns false when the waiting task is cancelled.
    package func settled(includingDelays: Bool = false) async -> Bool {
        guard let current else { return true }
        return await current.environment.activity.settled(includingDelays: includingDelays)
    }
}
