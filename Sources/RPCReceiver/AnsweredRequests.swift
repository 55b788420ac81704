internal import ConcurrencyPrimitives
import DequeModule
import RPCWire

/// The decisions of a deduplication: which request ids are being handled, and what earlier ones were answered with.
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

    /// A request's id within its procedure.
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
    /// The stored entries, oldest first.
    private var order = Deque<Stored>()
    private var lastSerial: UInt64 = 0
    private let settings: RPCDeduplication
    /// The number of bytes of the stored replies.
    private(set) var bytes = 0

    init(_ settings: RPCDeduplication) {
        self.settings = settings
    }

    /// The number of known ids.
    var count: Int { slots.count }

    /// What to do with an arriving request.
    enum Arrival: Sendable {
        /// Handle it.
        case run
        /// Wait for the answer to another request.
        case follow
        /// Answer it with this stored reply.
        case answered(Reply)
    }

    /// Returns what to do with a request with this id.
    mutating func arrival(of id: ID, at now: ContinuousClock.Instant) -> Arrival {
        drop(at: now)
        return switch slots[id] {
        case nil: .run
        case .running: .follow
        case .stored(let reply, _): .answered(reply)
        }
    }

    /// Records a request that was accepted as ``arrival(of:at:)`` said.
    mutating func begin(_ id: ID, _ key: Key) {
        switch slots[id] {
        case nil, .stored: slots[id] = .running(key, followers: [])
        case .running(let first, var followers):
            followers.append(key)
            slots[id] = .running(first, followers: followers)
        }
    }

    /// Records the answer to a request. Returns those that get the same answer.
    ///
    /// - Parameter size: The size of the reply in bytes.
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

    /// A request ended without an answer. Returns the one to handle instead.
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

    /// The approximate memory of a stored reply besides its bytes.
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
