import Synchronization

/// Something that happened to one child of a tree. It is published after it has happened.
public struct SupervisionEvent: Sendable {
    /// What happened.
    public enum Kind: Sendable {
        /// Its start closure returned.
        case started
        /// Its start closure returned `nil`: there is no process.
        case ignored
        /// A start failed. While booting, the tree goes down with it; later the start is retried.
        case startFailed(ExitReason)
        /// It ended by itself. `expected` is true when that is not a fault for a child of its kind.
        case exited(ExitReason, expected: Bool)
        /// Its supervisor stopped it. `expected` is true when it ended as asked.
        case stopped(ExitReason, expected: Bool)
        /// It will be restarted after this time, together with the siblings that the strategy couples to it.
        case restarting(after: Duration)
        /// The restart intensity is exceeded; the supervisor pauses for this time instead of giving up.
        case coolingDown(Duration, ExitReason)
        /// The restart intensity is exceeded; the supervisor shuts down.
        case gaveUp(ExitReason)
        /// It did not end after it was cancelled: its task continues unsupervised, fenced off.
        case abandoned
    }

    /// The child's path from the root of the tree.
    public var path: String
    /// The incarnation, `nil` when there is none.
    public var pid: Pid?
    /// What happened.
    public var kind: Kind
}

/// The events of a tree, from the moment of subscribing.
///
/// Up to 1,024 events are buffered for a slow reader; then the oldest are dropped, and ``dropped`` counts them.
public struct SupervisionEvents: AsyncSequence, Sendable {
    let stream: AsyncStream<SupervisionEvent>
    let listener: EventListener

    /// The number of events that were dropped because the reader was too slow.
    public var dropped: Int { listener.dropped.load(ordering: .relaxed) }

    /// Which events the reader receives from now on.
    package var interest: EventInterest {
        get { listener.interest.load(ordering: .relaxed) }
        nonmutating set { listener.interest.store(newValue, ordering: .relaxed) }
    }

    /// An iterator over the events. Each event is delivered to one iterator only.
    public func makeAsyncIterator() -> AsyncStream<SupervisionEvent>.Iterator {
        stream.makeAsyncIterator()
    }
}

/// A subscriber to the events of a tree.
final class EventListener: Sendable {
    let dropped = Atomic<Int>(0)
    let interest: Atomic<EventInterest>

    init(_ interest: EventInterest) {
        self.interest = Atomic(interest)
    }

    func wants(_ interest: EventInterest) -> Bool {
        self.interest.load(ordering: .relaxed).includes(interest)
    }
}

/// Which events a listener wants. An event that nobody wants is not created.
package enum EventInterest: UInt8, Sendable, AtomicRepresentable {
    /// Only failures and the supervisors' reactions to them: rare, however many children are started and stopped.
    case failures
    case everything

    func includes(_ other: EventInterest) -> Bool {
        switch (self, other) {
        case (.everything, _), (.failures, .failures): true
        case (.failures, .everything): false
        }
    }
}

extension SupervisionEvent.Kind {
    var interest: EventInterest {
        switch self {
        case .started, .ignored, .exited(_, expected: true), .stopped(_, expected: true): .everything
        case .startFailed, .exited, .stopped, .restarting, .coolingDown, .gaveUp, .abandoned: .failures
        }
    }
}

/// The events of one tree, and their listeners.
final class EventHub: Sendable {
    static let bufferSize = 1024

    private struct State {
        var lastToken: UInt64 = 0
        var listeners: [UInt64: (continuation: AsyncStream<SupervisionEvent>.Continuation, listener: EventListener)] =
            [:]
        var isFinished = false
    }

    private let state = Mutex(State())
    /// Read without the lock: most trees have no listeners.
    private let listenerCount = Atomic(0)

    /// Whether any listener wants events of this kind.
    func isHeard(_ interest: EventInterest) -> Bool {
        guard listenerCount.load(ordering: .acquiring) > 0 else { return false }
        return state.withLock { state in
            state.listeners.values.contains { $0.listener.wants(interest) }
        }
    }

    func subscribe(_ interest: EventInterest = .everything) -> SupervisionEvents {
        let (stream, continuation) = AsyncStream.makeStream(
            of: SupervisionEvent.self,
            bufferingPolicy: .bufferingNewest(EventHub.bufferSize)
        )
        let events = SupervisionEvents(stream: stream, listener: EventListener(interest))
        let token = state.withLock { state -> UInt64? in
            guard !state.isFinished else { return nil }
            state.lastToken += 1
            state.listeners[state.lastToken] = (continuation, events.listener)
            listenerCount.store(state.listeners.count, ordering: .releasing)
            return state.lastToken
        }
        guard let token else {
            continuation.finish()
            return events
        }
        continuation.onTermination = { [weak self] _ in
            guard let self else { return }
            state.withLock { state in
                state.listeners[token] = nil
                listenerCount.store(state.listeners.count, ordering: .releasing)
            }
        }
        return events
    }

    func publish(_ event: SupervisionEvent) {
        let listeners = state.withLock { $0.listeners }
        let interest = event.kind.interest
        for (continuation, listener) in listeners.values where listener.wants(interest) {
            if case .dropped = continuation.yield(event) { listener.dropped.add(1, ordering: .relaxed) }
        }
    }

    func finish() {
        let listeners = state.withLock { state in
            state.isFinished = true
            defer {
                state.listeners = [:]
                listenerCount.store(0, ordering: .releasing)
            }
            return state.listeners
        }
        for listener in listeners.values { listener.continuation.finish() }
    }
}
