import Synchronization

/// Counts what is under way in a tree: supervisors at work, processes on their way out, and, apart from these, supervisors that
/// only wait for the delay of a restart.
///
/// With nothing under way the tree is settled, and whoever waits for that is told: an event, not a poll.
final class Activity: Sendable {
    private struct Waiter {
        let continuation: CheckedContinuation<Bool, Never>
        let includesDelays: Bool
    }

    private struct State {
        var working = 0
        var delaying = 0
        var lastToken: UInt64 = 0
        var waiters: [UInt64: Waiter] = [:]
        var cancelled: Set<UInt64> = []

        func isSettled(_ includesDelays: Bool) -> Bool {
            working == 0 && (!includesDelays || delaying == 0)
        }

        /// The waiters whose time has come.
        mutating func takeDue() -> [Waiter] {
            guard working == 0, !waiters.isEmpty else { return [] }
            let due = waiters.filter { isSettled($0.value.includesDelays) }
            for token in due.keys { waiters[token] = nil }
            return Array(due.values)
        }
    }

    private let state = Mutex(State())

    /// A process is on its way out.
    func begin() {
        change(from: .idle, to: .working)
    }

    /// It has ended.
    func end() {
        change(from: .working, to: .idle)
    }

    func change(from old: SupervisorCore.Activity, to new: SupervisorCore.Activity) {
        let due = state.withLock { state in
            switch old {
            case .idle: break
            case .delaying: state.delaying -= 1
            case .working: state.working -= 1
            }
            switch new {
            case .idle: break
            case .delaying: state.delaying += 1
            case .working: state.working += 1
            }
            return state.takeDue()
        }
        for waiter in due { waiter.continuation.resume(returning: true) }
    }

    /// Returns true when nothing is under way, and with `includingDelays` no restart waits for its delay; false when the waiting
    /// task is cancelled before.
    func settled(includingDelays: Bool) async -> Bool {
        let token = state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let result = state.withLock { state -> Bool? in
                    if state.isSettled(includingDelays) { return true }
                    if state.cancelled.remove(token) != nil { return false }
                    state.waiters[token] = Waiter(continuation: continuation, includesDelays: includingDelays)
                    return nil
                }
                if let result { continuation.resume(returning: result) }
            }
        } onCancel: {
            let waiter = state.withLock { state in
                let waiter = state.waiters.removeValue(forKey: token)
                if waiter == nil { state.cancelled.insert(token) }
                return waiter
            }
            waiter?.continuation.resume(returning: false)
        }
    }
}
