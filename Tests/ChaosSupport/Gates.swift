import Synchronization

/// Handlers wait here until a test lets them go.
package final class Gates: Sendable {
    private struct State {
        var isOpen = true
        var arrived = 0
        var lastToken = 0
        var held: [Int: CheckedContinuation<Void, Never>] = [:]
        var cancelled: Set<Int> = []
        var watcher: (count: Int, continuation: CheckedContinuation<Void, Never>)?
    }

    private let state = Mutex(State())

    package init() {}

    package func open() {
        let held = state.withLock { state in
            state.isOpen = true
            defer { state.held = [:] }
            return state.held
        }
        for continuation in held.values { continuation.resume() }
    }

    /// The count of arrivals begins anew.
    package func close() {
        state.withLock { state in
            state.isOpen = false
            state.arrived = 0
        }
    }

    package func waitForArrivals(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                if state.arrived < count { state.watcher = (count, continuation) }
                return state.arrived >= count
            }
            if isThere { continuation.resume() }
        }
    }

    package func pass() async throws {
        let (token, watcher) = state.withLock { state in
            state.arrived += 1
            state.lastToken += 1
            guard let watcher = state.watcher, state.arrived >= watcher.count else {
                return (state.lastToken, nil as CheckedContinuation<Void, Never>?)
            }
            state.watcher = nil
            return (state.lastToken, watcher.continuation)
        }
        watcher?.resume()
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let passes = state.withLock { state in
                    if state.isOpen || state.cancelled.remove(token) != nil { return true }
                    state.held[token] = continuation
                    return false
                }
                if passes { continuation.resume() }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                let continuation = state.held.removeValue(forKey: token)
                if continuation == nil { state.cancelled.insert(token) }
                return continuation
            }
            continuation?.resume()
        }
        try Task.checkCancellation()
    }
}
