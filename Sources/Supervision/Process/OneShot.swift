import Synchronization

/// A value that is set once, and any number of tasks that wait for it. Waiting is cancellable; the first value stands.
final class OneShot<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var lastToken: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Value, any Error>] = [:]
        var settling: [CheckedContinuation<Value, Never>] = []
        /// Cancelled before their continuation was added.
        var cancelled: Set<UInt64> = []
    }

    private let state = Mutex(State())

    /// The value, if it has been set.
    var current: Value? { state.withLock { $0.value } }

    /// Sets the value and resumes all who wait. False when it had been set before.
    @discardableResult
    func set(_ value: Value) -> Bool {
        let waiting = state.withLock { state -> State? in
            guard state.value == nil else { return nil }
            let waiting = state
            state = State(value: value, lastToken: state.lastToken)
            return waiting
        }
        guard let waiting else { return false }
        for waiter in waiting.waiters.values { waiter.resume(returning: value) }
        for waiter in waiting.settling { waiter.resume(returning: value) }
        return true
    }

    /// The value, waited for however long it takes: for those whose cancellation sets one.
    func settled() async -> Value {
        await withCheckedContinuation { continuation in
            let value = state.withLock { state -> Value? in
                if let value = state.value { return value }
                state.settling.append(continuation)
                return nil
            }
            if let value { continuation.resume(returning: value) }
        }
    }

    /// The value, waited for.
    ///
    /// - Throws: `CancellationError` when the waiting task is cancelled before there is a value.
    func value() async throws(CancellationError) -> Value {
        let token = state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
        do {
            return try await withTaskCancellationHandler {
                try await withCheckedThrowingContinuation { continuation in
                    let result = state.withLock { state -> Result<Value, any Error>? in
                        let wasCancelled = state.cancelled.remove(token) != nil
                        if let value = state.value { return .success(value) }
                        if wasCancelled { return .failure(CancellationError()) }
                        state.waiters[token] = continuation
                        return nil
                    }
                    if let result { continuation.resume(with: result) }
                }
            } onCancel: {
                let waiter = state.withLock { state in
                    let waiter = state.waiters.removeValue(forKey: token)
                    if waiter == nil, state.value == nil { state.cancelled.insert(token) }
                    return waiter
                }
                waiter?.resume(throwing: CancellationError())
            }
        } catch {
            throw CancellationError()
        }
    }
}
