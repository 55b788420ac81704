import DequeModule
import RPCWire
import Supervision

/// Every call that waits, by its id: what it waits for, until when, and what an event means for it.
///
/// A pure value: it decides, and whoever holds it acts. Taking an entry out is the right to resume its waiter, so each waiter
/// is resumed at most once whatever races: a reply with a timeout, a cancellation with a return, the end of the table with
/// everything.
///
/// ```
///                ┌── notWritten ──┐
///                ▼                │
/// begin ──▶ waiting ── take ──▶ submitted ──▶ reply | returned | nacked | unknown | refused | reply queue lost
///                │                │
///                └────────────────┴─────────▶ deadline | cancelled | end of the table
/// ```
///
/// A confirm ends a cast; for a call it says nothing that would have to be remembered, and it may come after the reply.
struct PendingTable<Call: Sendable>: Sendable {
    /// What an entry waits for.
    enum Kind: Sendable, Equatable {
        /// A reply.
        case call
        /// The broker's confirm.
        case cast
        /// A channel to be ready.
        case readiness
    }

    /// Where an entry is.
    private enum Phase: Sendable {
        /// Not sent. It waits for a channel, or for a reply queue that is consumed.
        case waiting
        /// Handed to a channel.
        case submitted
    }

    private struct Entry: Sendable {
        let kind: Kind
        let call: Call
        let deadline: ContinuousClock.Instant
        var phase = Phase.waiting
        var attempts = 0
    }

    /// Why nothing more is taken in.
    enum Refusal: Error, Sendable {
        case overloaded(limit: Int)
        case closed(ExitReason)
    }

    /// A message to hand to a channel now.
    struct Submission: Sendable {
        let id: RequestID
        let call: Call
        let remaining: Duration
    }

    /// What became of a submitted message (`PublishOutcome`, without what does not matter here).
    enum Outcome: Sendable {
        case confirmed
        case presumedDelivered
        case nacked
        case returned
        case notWritten
        case unknown
        case refused
    }

    /// What an outcome means.
    enum Decision: Sendable {
        /// Nothing: the entry goes on waiting, or is gone.
        case none
        /// The entry is out, and its waiter is told.
        case ended(Call)
        /// It waits for a channel again. `attempts` were made so far.
        case sendAgain(attempts: Int)
    }

    /// How an entry ended, for its waiter.
    struct Ending: Sendable {
        let call: Call
        let wasSubmitted: Bool
    }

    private var entries: [RequestID: Entry] = [:]
    private var line = Deque<RequestID>()
    private var deadlines = DeadlineHeap<RequestID>()
    private var end: ExitReason?
    private let limit: Int

    init(limit: Int) {
        self.limit = limit
    }

    /// Whether it has ended.
    var isClosed: Bool { end != nil }

    /// How many entries wait.
    var count: Int { entries.count }

    /// How much it holds of anything, leftovers of what has ended included.
    var remembered: Int { max(entries.count, line.count, deadlines.count) }

    /// The next deadline to look at.
    var earliestDeadline: ContinuousClock.Instant? { deadlines.earliest }

    // MARK: Coming and going

    /// Takes in a new entry, which waits until it is taken for submission.
    ///
    /// Done before its message goes anywhere, so that the fastest reply finds it.
    mutating func begin(
        _ id: RequestID,
        kind: Kind,
        call: Call,
        deadline: ContinuousClock.Instant
    ) throws(Refusal) {
        if let end { throw .closed(end) }
        guard entries.count < limit else { throw .overloaded(limit: limit) }
        entries[id] = Entry(kind: kind, call: call, deadline: deadline)
        deadlines.insert(id, at: deadline)
    }

    /// Takes an entry out, for a reply or a cancellation. `nil`: it has ended already, or never was.
    mutating func remove(_ id: RequestID) -> Ending? {
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        deadlines.prune(to: entries.count) { [entries] in entries[$0] != nil }
        return Ending(call: entry.call, wasSubmitted: entry.phase == .submitted)
    }

    /// Takes out the call that a reply is for. A cast or a readiness waits for none: its id in a reply is forged.
    mutating func reply(to id: RequestID) -> Ending? {
        guard entries[id]?.kind == .call else { return nil }
        return remove(id)
    }

    /// Takes out everything whose deadline has passed.
    mutating func expire(at now: ContinuousClock.Instant) -> [Ending] {
        var expired: [Ending] = []
        while let id = deadlines.popDue(at: now) {
            if let ending = remove(id) { expired.append(ending) }
        }
        return expired
    }

    /// The reply queue is gone: every call that was handed to a channel under its name ends.
    mutating func replyQueueLost() -> [Ending] {
        let lost = entries.filter { $0.value.kind == .call && $0.value.phase == .submitted }.keys
        return lost.compactMap { remove($0) }
    }

    /// The end of the table: every entry ends, and nothing new comes in. The first reason stays.
    mutating func close(_ reason: ExitReason) -> [Ending] {
        if end == nil { end = reason }
        let endings = entries.values.map { Ending(call: $0.call, wasSubmitted: $0.phase == .submitted) }
        entries = [:]
        line = []
        deadlines = DeadlineHeap()
        return endings
    }

    // MARK: Sending

    /// Takes an entry to be handed to a channel. `nil`: it has ended, or is on its way already.
    mutating func take(_ id: RequestID, now: ContinuousClock.Instant) -> Submission? {
        guard var entry = entries[id], entry.phase == .waiting else { return nil }
        entry.phase = .submitted
        entry.attempts += 1
        entries[id] = entry
        return Submission(id: id, call: entry.call, remaining: now.duration(to: entry.deadline))
    }

    /// Puts a waiting entry at the end of the line for a channel.
    mutating func lineUp(_ id: RequestID) {
        guard let entry = entries[id], entry.phase == .waiting else { return }
        line.append(id)
        // Entries that ended while they stood in line are dropped when they are reached; many of them at once here.
        if line.count > 2 * entries.count + 64 {
            line = Deque(line.filter { entries[$0]?.phase == .waiting })
        }
    }

    /// Whether anything stands in line.
    var hasLine: Bool { !line.isEmpty }

    /// Takes the first in line that still waits.
    mutating func takeFirstInLine(now: ContinuousClock.Instant) -> Submission? {
        while let id = line.popFirst() {
            if let submission = take(id, now: now) { return submission }
        }
        return nil
    }

    /// The broker's, or the channel's, answer to a submitted message. There is one for each submission.
    mutating func outcome(_ outcome: Outcome, of id: RequestID) -> Decision {
        guard let entry = entries[id], entry.phase == .submitted else { return .none }
        switch outcome {
        case .confirmed, .presumedDelivered:
            return entry.kind == .call ? .none : ended(id)
        case .nacked, .returned, .unknown, .refused:
            return ended(id)
        case .notWritten:
            entries[id]?.phase = .waiting
            return .sendAgain(attempts: entry.attempts)
        }
    }

    private mutating func ended(_ id: RequestID) -> Decision {
        guard let ending = remove(id) else { return .none }
        return .ended(ending.call)
    }
}
