import Synchronization

/// Counts what is under way in a tree: supervisors at work or with a restart pending, processes on their way out.
///
/// At zero the tree is settled, and whoever waits for that is told: an event, not a poll.
final class Activity: Sendable {
    private struct State {
        var count = 0
        var lastToken: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Bool, Never>] = [:]
        var cancelled: Set<UInt64> = []
    }

    private let state = Mutex(State())

    func begin() {
        state.withLock { $0.count += 1 }
    }

    func end() {
        let waiters = state.withLock { state -> [UInt64: CheckedContinuation<Bool, Never>] in
            state.count -= 1
            guard state.count == 0 else { return [:] }
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume(returning: true) }
    }

    var isSettled: Bool { state.withLock { $0.count == 0 } }

    /// Returns true when the count is zero, false when the waiting task is cancelled before.
    func settled() async -> Bool {
        let token = state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let result = state.withLock { state -> Bool? in
                    if state.count == 0 { return true }
                    if state.cancelled.remove(token) != nil { return false }
                    state.waiters[token] = continuation
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
            waiter?.resume(returning: false)
        }
    }
}
