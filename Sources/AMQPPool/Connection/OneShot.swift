import Supervision
import Synchronization

/// Tells a value once to everybody who waits now or asks later: that a connection is open, or over.
///
/// Independent of the event loop, so that waiting works from anywhere.
package final class OneShot<Value: Sendable>: Sendable {
    private struct State {
        var value: Value?
        var nextID: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Value?, Never>] = [:]
        var handlers: [@Sendable (Value) -> Void] = []
    }

    private let state = Mutex(State())

    package init() {}

    /// The value, or nil while there is none.
    package var value: Value? { state.withLock { $0.value } }

    /// The first call counts.
    package func fire(_ value: Value) {
        let ended: State? = state.withLock { state in
            guard state.value == nil else { return nil }
            let ended = state
            state.value = value
            state.waiters = [:]
            state.handlers = []
            return ended
        }
        guard let ended else { return }
        for handler in ended.handlers { handler(value) }
        for waiter in ended.waiters.values { waiter.resume(returning: value) }
    }

    /// Runs the handler where ``fire(_:)`` is called, or at once, here, if it was.
    package func whenFired(_ handler: @escaping @Sendable (Value) -> Void) {
        let value: Value? = state.withLock { state in
            if state.value == nil { state.handlers.append(handler) }
            return state.value
        }
        if let value { handler(value) }
    }

    /// Waits for the value. Returns nil only when the task was cancelled before.
    package func wait() async -> Value? {
        await wait(as: nextID(), before: nil)
    }

    /// Waits for the value, no longer than this; then, and when the task is cancelled, it returns nil. Its timer is none of an
    /// event loop's: that may be what is stuck.
    package func wait(atMost timeout: Duration) async -> Value? {
        let timeout = timeout.bounded
        let id = nextID()
        let deadline = ContinuousClock.now + timeout
        let timer = SystemSupervisionClock.shared.schedule(after: timeout) { self.giveUp(id) }
        defer { timer.cancel() }
        return await wait(as: id, before: deadline)
    }

    private func nextID() -> UInt64 {
        state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
    }

    private func wait(as id: UInt64, before deadline: ContinuousClock.Instant?) async -> Value? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Value?, Never>) in
                // Cancelled or too late before this point, nobody finds a waiter to wake: so it is looked at inside the lock.
                let (isOver, value) = state.withLock { state -> (Bool, Value?) in
                    if let value = state.value { return (true, value) }
                    if Task.isCancelled { return (true, nil) }
                    if let deadline, ContinuousClock.now >= deadline { return (true, nil) }
                    state.waiters[id] = continuation
                    return (false, nil)
                }
                if isOver { continuation.resume(returning: value) }
            }
        } onCancel: {
            giveUp(id)
        }
    }

    private func giveUp(_ id: UInt64) {
        state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: nil)
    }
}
