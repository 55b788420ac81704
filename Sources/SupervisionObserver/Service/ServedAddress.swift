import Synchronization

/// Where the page is served, for those who wait for it.
final class ServedAddress: Sendable {
    private struct State {
        var url: String?
        var isEnded = false
        var lastWaiter: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<String?, Never>] = [:]
    }

    private let state = Mutex(State())

    func set(_ url: String) {
        wakeAll { state in
            state.url = url
            return url
        }
    }

    func end() {
        wakeAll { state in
            state.url = nil
            state.isEnded = true
            return nil
        }
    }

    private func wakeAll(_ change: (inout State) -> String?) {
        let (url, waiters) = state.withLock { state in
            let url = change(&state)
            defer { state.waiters = [:] }
            return (url, state.waiters)
        }
        for waiter in waiters.values { waiter.resume(returning: url) }
    }

    func value() async -> String? {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (isOver, url) = state.withLock { state -> (Bool, String?) in
                    if state.url != nil || state.isEnded || Task.isCancelled { return (true, state.url) }
                    state.waiters[id] = continuation
                    return (false, nil)
                }
                if isOver { continuation.resume(returning: url) }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: nil)
        }
    }
}
