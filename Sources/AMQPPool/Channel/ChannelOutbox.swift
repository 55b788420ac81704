import NIOCore
import Synchronization

/// The queue of messages and acknowledgements from any thread to a channel, in one order, until the event loop fetches them.
///
/// Messages are bounded; acknowledgements are always accepted. There is at most one acknowledgement per delivery, so the prefetch bounds
/// them; refusing one would keep its delivery, and its place in the prefetch, forever.
///
/// Only the first entry after a fetch wakes the event loop: one wake-up per batch.
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
        /// The event loop has to be woken.
        case wakeUp
        /// The event loop has already been woken.
        case queued
        /// There is no room for a message at present.
        case full
        case closed(AMQPError)
    }

    private struct State {
        var entries: [Entry] = []
        /// Entries (and bytes) that are queued, or fetched but not yet written or refused.
        var count = 0
        var bytes = 0
        var isAwake = false
        var closedError: AMQPError?

        /// A single message always fits, whatever its size.
        func hasRoom(for size: Int, _ bounds: Bounds) -> Bool {
            (bytes == 0 || bytes + size <= bounds.bytes) && count < bounds.entries
        }

        mutating func append(_ entry: Entry, _ size: Int) {
            entries.append(entry)
            count += 1
            bytes += size
        }
    }

    /// The limits of the outbox.
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

    /// Appends the first of these messages, as many as fit, in order, under one lock.
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

    /// Appends these acknowledgements, in order, under one lock.
    func append(acknowledging tags: [UInt64]) -> Admission {
        state.withLock { state in
            if let error = state.closedError { return .closed(error) }
            for tag in tags { state.append(.acknowledge(deliveryTag: tag, multiple: false), 0) }
            defer { state.isAwake = true }
            return state.isAwake ? .queued : .wakeUp
        }
    }

    /// The number of entries and bytes that wait to be written.
    var size: (entries: Int, bytes: Int) { state.withLock { ($0.count, $0.bytes) } }

    /// Swaps the queued entries for an empty array, whose memory is reused.
    ///
    /// - Parameter done: The entries of earlier fetches that have been written or refused, and their bytes.
    /// - Returns: Whether there was anything. If not, the next entry wakes the event loop.
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

    /// Records that entries have been written or refused.
    func done(_ done: (count: Int, bytes: Int)) {
        state.withLock { state in
            state.count -= done.count
            state.bytes -= done.bytes
        }
    }

    /// Refuses everything from now on. Returns the entries that were not fetched.
    func close(_ error: AMQPError) -> [Entry] {
        state.withLock { state in
            if state.closedError == nil { state.closedError = error }
            defer { state.entries = [] }
            return state.entries
        }
    }
}
