import Synchronization

/// Delivers each event to all listeners. A slow listener loses its oldest undelivered events.
public final class EventBroadcast<Event: Sendable>: Sendable {
    private struct Listener: Sendable {
        let continuation: AsyncStream<Event>.Continuation
        let onDrop: @Sendable () -> Void
    }

    private struct State {
        var lastToken: UInt64 = 0
        var listeners: [UInt64: Listener] = [:]
        var isFinished = false
    }

    private let state = Mutex(State())
    private let limit: Int

    /// - Parameter limit: The maximum number of events buffered per listener.
    public init(limit: Int) {
        self.limit = limit
    }

    /// Whether there is no listener.
    public var isEmpty: Bool { state.withLock { $0.listeners.isEmpty } }

    /// The events from now on; empty after ``finish()``.
    ///
    /// - Parameter onDrop: Called for each event that the listener loses.
    public func stream(onDrop: @escaping @Sendable () -> Void = {}) -> AsyncStream<Event> {
        let (stream, continuation) = AsyncStream.makeStream(of: Event.self, bufferingPolicy: .bufferingNewest(limit))
        let token = state.withLock { state -> UInt64? in
            guard !state.isFinished else { return nil }
            state.lastToken += 1
            state.listeners[state.lastToken] = Listener(continuation: continuation, onDrop: onDrop)
            return state.lastToken
        }
        guard let token else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.listeners.removeValue(forKey: token) }
        }
        return stream
    }

    /// Sends an event to all listeners.
    public func send(_ event: Event) {
        let listeners = state.withLock { $0.listeners }
        for listener in listeners.values {
            if case .dropped = listener.continuation.yield(event) { listener.onDrop() }
        }
    }

    /// Ends the streams, after their buffered events.
    public func finish() {
        let listeners = state.withLock { state in
            state.isFinished = true
            defer { state.listeners = [:] }
            return state.listeners
        }
        // Outside the lock, which the termination handler takes.
        for listener in listeners.values { listener.continuation.finish() }
    }
}
