import ConcurrencyPrimitives

/// Counts what is under way in a tree: supervisors at work, processes on their way out, and, apart from these, supervisors that
/// only wait for the delay of a restart.
///
/// With nothing under way the tree is settled, and whoever waits for that is told: an event, not a poll.
final class TreeActivity: Sendable {
    private struct Counts: Sendable {
        var working = 0
        var delaying = 0

        func isSettled(_ includesDelays: Bool) -> Bool {
            working == 0 && (!includesDelays || delaying == 0)
        }
    }

    private let counts = Monitor(Counts())

    /// A process is on its way out.
    func begin() {
        change(from: .idle, to: .working)
    }

    /// It has ended.
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

    /// Returns true when nothing is under way, and with `includingDelays` no restart waits for its delay; false when the waiting
    /// task is cancelled before.
    func settled(includingDelays: Bool) async -> Bool {
        do throws(WaitFailure) {
            return try await counts.wait { $0.isSettled(includingDelays) ? true : nil }
        } catch {
            return false
        }
    }
}

extension Supervisor {
    /// Waits until nothing is under way in the tree: no supervisor at work, no process on its way out. With `includingDelays` no
    /// restart waits for its delay either. An event, not a poll. False when the waiting task was cancelled before.
    package func settled(includingDelays: Bool = false) async -> Bool {
        guard let current else { return true }
        return await current.environment.activity.settled(includingDelays: includingDelays)
    }
}
