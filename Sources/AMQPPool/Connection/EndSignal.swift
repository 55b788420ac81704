import Synchronization

/// Tells once, to everybody who waits now or asks later, that a connection or channel is over, and why.
///
/// Independent of the event loop, so that waiting works from anywhere.
final class EndSignal: Sendable {
    private struct State {
        var error: AMQPError?
        var nextID: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<AMQPError?, Never>] = [:]
        var handlers: [@Sendable (AMQPError) -> Void] = []
    }

    private let state = Mutex(State())

    /// Why it is over, or nil while it is not.
    var error: AMQPError? { state.withLock { $0.error } }

    /// The first call counts.
    func fire(_ error: AMQPError) {
        let ended: State? = state.withLock { state in
            guard state.error == nil else { return nil }
            let ended = state
            state.error = error
            state.waiters = [:]
            state.handlers = []
            return ended
        }
        guard let ended else { return }
        for handler in ended.handlers { handler(error) }
        for waiter in ended.waiters.values { waiter.resume(returning: error) }
    }

    /// Runs the handler when it is over: on the event loop, or at once, here, if it is over already.
    func onEnd(_ handler: @escaping @Sendable (AMQPError) -> Void) {
        let error: AMQPError? = state.withLock { state in
            if state.error == nil { state.handlers.append(handler) }
            return state.error
        }
        if let error { handler(error) }
    }

    /// Waits until it is over. Returns nil only when the task was cancelled before.
    func wait() async -> AMQPError? {
        let id = state.withLock { state in
            state.nextID += 1
            return state.nextID
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<AMQPError?, Never>) in
                // A task cancelled before this point finds no waiter in `onCancel`: so it is looked at inside the lock.
                let (isOver, error) = state.withLock { state -> (Bool, AMQPError?) in
                    if let error = state.error { return (true, error) }
                    if Task.isCancelled { return (true, nil) }
                    state.waiters[id] = continuation
                    return (false, nil)
                }
                if isOver { continuation.resume(returning: error) }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: nil)
        }
    }
}
