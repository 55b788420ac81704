internal import ConcurrencyPrimitives
import DequeModule
import RPCWire

/// Which request ids are being worked on, and what those before them were answered: the decisions of a deduplication.
///
/// ```
///           ┌───────────── left without an answer, nobody follows ──────────────┐
///           ▼                                                                   │
/// unknown ──▶ running ── answered ──▶ stored ── too many, too old ──▶ unknown   │
///           ▲    │ left without an answer: the next that follows runs           │
///           └────┴──────────────────────────────────────────────────────────────┘
/// ```
struct AnsweredRequests<Reply: Sendable>: Sendable {
    typealias Key = UInt64

    /// A request's id, within its procedure.
    struct ID: Hashable, Sendable {
        let procedure: String?
        let messageID: String
    }

    private enum Slot: Sendable {
        case running(Key, followers: Deque<Key>)
        case stored(Reply, serial: UInt64)
    }

    private struct Stored: Sendable {
        let id: ID
        let serial: UInt64
        let bytes: Int
        let time: ContinuousClock.Instant
    }

    private var slots: [ID: Slot] = [:]
    /// What is stored, oldest first.
    private var order = Deque<Stored>()
    private var lastSerial: UInt64 = 0
    private let settings: RPCDeduplication
    /// How many bytes the stored replies have.
    private(set) var bytes = 0

    init(_ settings: RPCDeduplication) {
        self.settings = settings
    }

    /// How many ids are known.
    var count: Int { slots.count }

    /// What to do with a request that comes.
    enum Arrival: Sendable {
        /// Work on it.
        case run
        /// It waits for the answer to another.
        case follow
        /// It was answered with this.
        case answered(Reply)
    }

    /// What a request with this id would be.
    mutating func arrival(of id: ID, at now: ContinuousClock.Instant) -> Arrival {
        drop(at: now)
        return switch slots[id] {
        case nil: .run
        case .running: .follow
        case .stored(let reply, _): .answered(reply)
        }
    }

    /// A request was taken on, as ``arrival(of:at:)`` said.
    mutating func begin(_ id: ID, _ key: Key) {
        switch slots[id] {
        case nil, .stored: slots[id] = .running(key, followers: [])
        case .running(let first, var followers):
            followers.append(key)
            slots[id] = .running(first, followers: followers)
        }
    }

    /// A request was answered. Returns those that get the same answer.
    ///
    /// - Parameter size: how many bytes the reply has.
    mutating func answered(
        _ id: ID,
        _ key: Key,
        _ reply: Reply,
        size: Int,
        at now: ContinuousClock.Instant
    ) -> Deque<Key> {
        guard case .running(key, let followers)? = slots[id] else { return [] }
        let bytes = size + id.messageID.utf8.count + (id.procedure?.utf8.count ?? 0) + Self.overhead
        if bytes <= settings.maximumBytes, settings.maximumEntries > 0 {
            lastSerial += 1
            slots[id] = .stored(reply, serial: lastSerial)
            order.append(Stored(id: id, serial: lastSerial, bytes: bytes, time: now))
            self.bytes += bytes
        } else {
            slots[id] = nil
        }
        drop(at: now)
        return followers
    }

    /// A request left without an answer. Returns the one that is to be worked on instead.
    mutating func left(_ id: ID, _ key: Key) -> Key? {
        guard case .running(let first, var followers)? = slots[id] else { return nil }
        if first != key {
            followers.removeAll { $0 == key }
            slots[id] = .running(first, followers: followers)
            return nil
        }
        guard let next = followers.popFirst() else {
            slots[id] = nil
            return nil
        }
        slots[id] = .running(next, followers: followers)
        return next
    }

    /// What a stored reply takes besides its bytes, roughly.
    private static var overhead: Int { 256 }

    private mutating func drop(at now: ContinuousClock.Instant) {
        while let oldest = order.first,
            order.count > settings.maximumEntries || bytes > settings.maximumBytes
                || oldest.time + settings.maximumAge.bounded <= now
        {
            order.removeFirst()
            bytes -= oldest.bytes
            if case .stored(_, oldest.serial)? = slots[oldest.id] { slots[oldest.id] = nil }
        }
    }
}
