import ConcurrencyPrimitives
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
    let drops: DropCount

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

/// The events of one tree, and who listens.
final class EventHub: Sendable {
    static let bufferSize = 1024

    private let broadcast = EventBroadcast<SupervisionEvent>(limit: EventHub.bufferSize)

    var isEmpty: Bool { broadcast.isEmpty }

    func subscribe() -> SupervisionEvents {
        let drops = DropCount()
        return SupervisionEvents(
            stream: broadcast.stream { drops.count.add(1, ordering: .relaxed) },
            drops: drops
        )
    }

    func publish(_ event: SupervisionEvent) {
        broadcast.send(event)
    }

    func finish() {
        broadcast.finish()
    }
}
