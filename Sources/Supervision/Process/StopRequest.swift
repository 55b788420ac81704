import Synchronization

/// A supervisor's wish that a worker ends, for the worker to observe: what an exit signal is to an Erlang process that traps
/// exits.
///
/// Taking it from ``ChildContext/stopRequest`` is what makes a worker one that is asked before it is cancelled:
///
///     actor Flusher: Worker {
///         let stop: StopRequest
///         init(_ context: ChildContext) { stop = context.stopRequest }
///
///         func run() async throws {
///             await stop.wait()          // or look at stop.isRequested between two pieces of work
///             try await flush()
///         }
///     }
public struct StopRequest: Sendable {
    let signal: StopSignal

    /// Whether the worker has been asked to end.
    public var isRequested: Bool { signal.isRequested }

    /// Returns when the worker has been asked to end, or the waiting task is cancelled.
    public func wait() async {
        let token = signal.reserveToken()
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                signal.add(token) { continuation.resume() }
            }
        } onCancel: {
            signal.runNow(token)
        }
    }

    /// Calls `handler` once when the worker is asked to end; at once if it has been. The handler must not block.
    public func onRequest(_ handler: @escaping @Sendable () -> Void) {
        signal.add(signal.reserveToken(), handler)
    }
}

/// The flag behind ``StopRequest``, and who waits for it.
final class StopSignal: Sendable {
    private struct State {
        var isRequested = false
        var lastToken: UInt64 = 0
        /// In the order of their tokens. Mostly one; a worker adds as many as it waits in places.
        var handlers: [(token: UInt64, run: @Sendable () -> Void)] = []
        /// Cancelled before their handler was added.
        var cancelled: Set<UInt64> = []
    }

    private let state = Mutex(State())

    var isRequested: Bool { state.withLock { $0.isRequested } }

    func reserveToken() -> UInt64 {
        state.withLock { state in
            state.lastToken += 1
            return state.lastToken
        }
    }

    func add(_ token: UInt64, _ handler: @escaping @Sendable () -> Void) {
        let isDue = state.withLock { state in
            if state.isRequested || state.cancelled.remove(token) != nil { return true }
            state.handlers.append((token, handler))
            return false
        }
        if isDue { handler() }
    }

    func runNow(_ token: UInt64) {
        let handler = state.withLock { state -> (@Sendable () -> Void)? in
            if let index = state.handlers.firstIndex(where: { $0.token == token }) {
                return state.handlers.remove(at: index).run
            }
            if !state.isRequested { state.cancelled.insert(token) }
            return nil
        }
        handler?()
    }

    func request() {
        let handlers = state.withLock { state in
            state.isRequested = true
            defer { state.handlers = [] }
            return state.handlers
        }
        for handler in handlers { handler.run() }
    }
}
