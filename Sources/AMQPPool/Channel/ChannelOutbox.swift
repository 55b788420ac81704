import NIOCore
import Synchronization

/// What any thread hands to a channel: messages and acknowledgements, in one order, until the event loop fetches them.
///
/// Bounded, for messages: an acknowledgement is always taken. There is one for a delivery at most, so the prefetch bounds them; one that
/// was refused would hold its delivery, and its place in the prefetch, for ever.
///
/// The first entry after the event loop had fetched all wakes it up, and no other does: one wake-up a batch.
final class ChannelOutbox: Sendable {
    enum Entry: Sendable {
        case publish(Publish)
        case acknowledge(deliveryTag: UInt64, multiple: Bool)
        case reject(deliveryTag: UInt64, requeue: Bool)
        case giveBack(deliveryTag: UInt64)

        var bytes: Int {
            if case .publish(let publish) = self { publish.body.readableBytes } else { 0 }
        }
    }

    enum Admission {
        /// The event loop must be told.
        case wakeUp
        /// The event loop knows.
        case queued
        /// There is no room for a message now.
        case full
        case closed(AMQPError)
    }

    private struct State {
        var entries: [Entry] = []
        /// Entries and bytes here and fetched, but not yet written or refused.
        var count = 0
        var bytes = 0
        var isAwake = false
        var closedError: AMQPError?

        /// One message always fits, however large.
        func hasRoom(for size: Int, _ bounds: Bounds) -> Bool {
            (bytes == 0 || bytes + size <= bounds.bytes) && count < bounds.entries
        }

        mutating func append(_ entry: Entry, _ size: Int) {
            entries.append(entry)
            count += 1
            bytes += size
        }
    }

    /// What may wait at once.
    struct Bounds: Sendable {
        var entries: Int
        var bytes: Int

        init(entries: Int, bytes: Int) {
            self.entries = entries
            self.bytes = bytes
        }
    }

    private let state = Mutex(State())
    private let bounds: Bounds

    init(_ bounds: Bounds) {
        self.bounds = bounds
    }

    func append(_ entry: Entry) -> Admission {
        let bytes = entry.bytes
        return state.withLock { state in
            if let error = state.closedError { return .closed(error) }
            if case .publish = entry, !state.hasRoom(for: bytes, bounds) { return .full }
            state.append(entry, bytes)
            defer { state.isAwake = true }
            return state.isAwake ? .queued : .wakeUp
        }
    }

    /// Takes as many of these messages as there is room for, in their order, in one turn.
    func append(_ publishes: [Publish]) -> (taken: Int, Admission) {
        state.withLock { state in
            if let error = state.closedError { return (0, .closed(error)) }
            var taken = 0
            for publish in publishes {
                let bytes = publish.body.readableBytes
                guard state.hasRoom(for: bytes, bounds) else { break }
                state.append(.publish(publish), bytes)
                taken += 1
            }
            guard taken > 0 else { return (0, .full) }
            defer { state.isAwake = true }
            return (taken, state.isAwake ? .queued : .wakeUp)
        }
    }

    /// How many entries and bytes wait to be written.
    var size: (entries: Int, bytes: Int) { state.withLock { ($0.count, $0.bytes) } }

    /// Exchanges what was appended against an empty array, whose memory is used again.
    ///
    /// - Parameter done: the entries fetched before that are written or refused by now, and their bytes.
    /// - Returns: whether there was anything. If not, the next entry wakes the event loop up.
    func fetch(into entries: inout [Entry], done: (count: Int, bytes: Int)) -> Bool {
        state.withLock { state in
            state.count -= done.count
            state.bytes -= done.bytes
            guard !state.entries.isEmpty else {
                state.isAwake = false
                return false
            }
            swap(&state.entries, &entries)
            return true
        }
    }

    /// These entries were written or refused.
    func done(_ done: (count: Int, bytes: Int)) {
        state.withLock { state in
            state.count -= done.count
            state.bytes -= done.bytes
        }
    }

    /// From now on everything is refused. Returns what was not fetched.
    func close(_ error: AMQPError) -> [Entry] {
        state.withLock { state in
            if state.closedError == nil { state.closedError = error }
            defer { state.entries = [] }
            return state.entries
        }
    }
}
