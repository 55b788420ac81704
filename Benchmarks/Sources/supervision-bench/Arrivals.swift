import Supervision
import Synchronization

/// Hears from children when they are up, as the bench's process does in the cases of OTP.
final class Arrivals: Sendable {
    private struct State {
        var count = 0
        var last: Pid?
        var wanted = Int.max
        var continuation: CheckedContinuation<Pid?, Never>?
    }

    private let state = Mutex(State())

    /// A child is up.
    func up(_ pid: Pid) {
        let continuation = state.withLock { state -> CheckedContinuation<Pid?, Never>? in
            state.count += 1
            state.last = pid
            guard state.count >= state.wanted else { return nil }
            state.wanted = .max
            defer { state.continuation = nil }
            return state.continuation
        }
        continuation?.resume(returning: pid)
    }

    /// Does something, and returns when so many children more have come up: the last of them.
    func next(_ count: Int = 1, after action: () -> Void = {}) async -> Pid? {
        state.withLock { $0.wanted = $0.count + count }
        action()
        return await wanted()
    }

    private func wanted() async -> Pid? {
        await withCheckedContinuation { continuation in
            let isOver = state.withLock { state in
                if state.wanted == .max { return true }
                state.continuation = continuation
                return false
            }
            if isOver { continuation.resume(returning: state.withLock { $0.last }) }
        }
    }

    /// Waits until so many have come up since this object was made.
    func total(_ count: Int) async {
        // In one step: one that comes up in between would be counted twice, and waited for without an end.
        state.withLock { $0.wanted = $0.count >= count ? .max : count }
        _ = await wanted()
    }
}
