import Supervision
import Synchronization

/// Opens once, and resumes its waiters.
final class Latch: Sendable {
    private struct State {
        var isOpen = false
        var lastToken = 0
        var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
    }

    private let state = Mutex(State())

    var isOpen: Bool { state.withLock { $0.isOpen } }

    func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume() }
    }

    /// Whether it opens within this time.
    func isOpen(within limit: Duration) async -> Bool {
        if isOpen { return true }
        let token = state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
        var timer: SupervisionTimer?
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiters[token] = continuation }
                return state.isOpen
            }
            if isOpen {
                continuation.resume()
            } else {
                timer = SystemSupervisionClock.shared.schedule(after: limit) { [weak self] in self?.release(token) }
            }
        }
        timer?.cancel()
        return isOpen
    }

    private func release(_ token: Int) {
        state.withLock { $0.waiters.removeValue(forKey: token) }?.resume()
    }
}
