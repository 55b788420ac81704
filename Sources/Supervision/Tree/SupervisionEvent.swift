import Synchronization

/// Something that happened to one child of a tree, told after it has happened.
public struct SupervisionEvent: Sendable {
    /// What happened.
    public enum Kind: Sendable {
        /// Its start closure returned.
        case started
        /// Its start closure returned `nil`: there is no process.
        case ignored
        /// A start failed. At boot the tree goes down with it, else it is tried again.
        case startFailed(ExitReason)
        /// It ended by itself. `expected` when that is nothing to worry about for a child of its kind.
        case exited(ExitReason, expected: Bool)
        /// Its supervisor stopped it. `expected` when it ended as asked.
        case stopped(ExitReason, expected: Bool)
        /// It will be started again after this time, together with what the strategy couples to it.
        case restarting(after: Duration)
        /// The restart intensity is exceeded; the supervisor pauses for this time instead of giving up.
        case coolingDown(Duration, ExitReason)
        /// The restart intensity is exceeded; the supervisor ends.
        case gaveUp(ExitReason)
        /// It did not end although it was cancelled: its task goes on unsupervised, fenced off.
        case abandoned
    }

    /// The child's path from the root of the tree.
    public var path: String
    /// The incarnation, `nil` when there is none.
    public var pid: Pid?
    /// What happened.
    public var kind: Kind
}

/// The events of a tree from the moment of asking on.
///
/// Up to 1,024 wait for a slow reader; then the oldest are dropped, and ``dropped`` counts them.
public struct SupervisionEvents: AsyncSequence, Sendable {
    let stream: AsyncStream<SupervisionEvent>
    let drops = DropCount()

    /// How many events the reader has missed by being slow.
    public var dropped: Int { drops.count.load(ordering: .relaxed) }

    /// An iterator over the events. Each event goes to one iterator only.
    public func makeAsyncIterator() -> AsyncStream<SupervisionEvent>.Iterator {
        stream.makeAsyncIterator()
    }
}

final class DropCount: Sendable {
    let count = Atomic<Int>(0)
}

/// Hands each event to all who listen.
final class EventHub: Sendable {
    static let bufferSize = 1024

    private struct State {
        var lastToken: UInt64 = 0
        var listeners: [UInt64: (continuation: AsyncStream<SupervisionEvent>.Continuation, drops: DropCount)] = [:]
        var isFinished = false
    }

    private let state = Mutex(State())

    var isEmpty: Bool { state.withLock { $0.listeners.isEmpty } }

    func subscribe() -> SupervisionEvents {
        let (stream, continuation) = AsyncStream.makeStream(
            of: SupervisionEvent.self,
            bufferingPolicy: .bufferingNewest(EventHub.bufferSize)
        )
        let events = SupervisionEvents(stream: stream)
        let token = state.withLock { state -> UInt64? in
            guard !state.isFinished else { return nil }
            state.lastToken += 1
            state.listeners[state.lastToken] = (continuation, events.drops)
            return state.lastToken
        }
        guard let token else {
            continuation.finish()
            return events
        }
        continuation.onTermination = { [weak self] _ in
            self?.state.withLock { _ = $0.listeners.removeValue(forKey: token) }
        }
        return events
    }

    func publish(_ event: SupervisionEvent) {
        let listeners = state.withLock { $0.listeners }
        for (continuation, drops) in listeners.values {
            if case .dropped = continuation.yield(event) { drops.count.add(1, ordering: .relaxed) }
        }
    }

    func finish() {
        let listeners = state.withLock { state in
            state.isFinished = true
            defer { state.listeners = [:] }
            return state.listeners
        }
        for listener in listeners.values { listener.continuation.finish() }
    }
}
