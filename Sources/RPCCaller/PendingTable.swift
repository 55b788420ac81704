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
///                ┌── notWritten, withdrawn ──┐
///                ├── retry ──────────────────┤
///                ▼                           │
/// begin ──▶ waiting ── take ──▶ submitted ───┴──▶ reply | returned | nacked | unknown | refused | replies lost
///                │                │
///                └────────────────┴─────────▶ deadline | cancelled | end of the table
/// ```
///
/// A confirm ends a cast; for a call it says nothing that would have to be remembered, and it may come after the reply.
///
/// It is bounded twice: no more than `limit` are submitted at once, and no more than `overflow` wait in addition to as many.
struct PendingTable<Call: Sendable>: Sendable {
    typealias Kind = CallKind

    /// Where an entry is.
    fileprivate enum Phase: Sendable {
        /// Not sent, or to be sent again. It waits for a channel, for a reply queue that is consumed, or for a place.
        case waiting
        /// Handed to a channel.
        case submitted
    }

    fileprivate struct Entry: Sendable {
        let kind: Kind
        let call: Call
        let deadline: CompactInstant
        let began: CompactInstant
        var phase = Phase.waiting
        var doubt: Doubt?
        var retriesLeft: Int16
        var attempts: Int32 = 0
        /// The channel whose end takes the reply with it; 0: there is none.
        var route: UInt32 = 0
    }

    /// Why an earlier attempt may have been delivered although nothing was heard of it.
    enum Doubt: Sendable, Equatable {
        case connectionLost
        case repliesLost
    }

    /// Why nothing more is taken in.
    enum Refusal: Error, Sendable, Equatable {
        case overloaded(limit: Int)
        /// It only lets what waits come to its end.
        case draining
        case closed
    }

    /// A message to hand to a channel now.
    struct Submission: Sendable {
        let id: RequestID
        let call: Call
        let remaining: Duration
        /// Counts from 1. The outcome of an attempt that is not the current one means nothing.
        let attempt: Int
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
        case ended(Ending)
        /// It waits for a channel again. `attempts` were made so far, none of which wrote anything.
        case sendAgain(RequestID, attempts: Int)
        /// It is one of those that may be sent once more, after a pause.
        case retry(Retry)
    }

    /// An entry that waits until it is lined up again, after a pause. A reply to what was sent before still ends it.
    struct Retry: Sendable {
        let id: RequestID
        let call: Call
        let attempts: Int
        let doubt: Doubt?
    }

    /// How an entry ended, for its waiter.
    struct Ending: Sendable {
        let call: Call
        let wasSubmitted: Bool
        /// How often it was submitted.
        let attempts: Int
        let retriesLeft: Int
        /// Whether, and why, one of the attempts before the last may have been delivered.
        let doubt: Doubt?
    }

    /// What the loss of the place where replies come to means.
    struct RepliesLost: Sendable {
        var ended: [Ending] = []
        /// Their messages were not written, and are no more: they wait to be lined up, and nobody has to know.
        var withdrawn: [RequestID] = []
        var retries: [Retry] = []
    }

    private var entries: [RequestID: Entry] = [:]
    private var line = Deque<RequestID>()
    private var deadlines = DeadlineHeap()
    private var submitted = 0
    private let limit: Int
    private let overflow: Int
    private(set) var isDraining = false
    /// Whether it has ended.
    private(set) var isClosed = false

    /// - Parameters:
    ///   - limit: How many may be in flight.
    ///   - overflow: How many may wait for a place then.
    init(limit: Int, overflow: Int = 0) {
        self.limit = max(1, limit)
        self.overflow = max(0, overflow)
    }

    /// How many entries wait.
    var count: Int { entries.count }

    /// Whether as many are in flight as may be.
    var isFull: Bool { submitted >= limit }

    /// How much it holds of anything, leftovers of what has ended included.
    var remembered: Int { max(entries.count, line.count, deadlines.count) }

    /// The next deadline to look at.
    var earliestDeadline: CompactInstant? { deadlines.earliest }

    // MARK: Looking at it

    /// How many are with a channel.
    var submittedCount: Int { submitted }

    /// The calls and casts that have waited longest. Walks the table.
    func oldest(
        _ limit: Int,
        at now: CompactInstant,
        _ names: (Call) -> (destination: String, procedure: String?)
    ) -> [CallInFlight] {
        var oldest = Oldest<CallInFlight>(limit: limit)
        for (id, entry) in entries where entry.kind != .readiness {
            oldest.offer(entry.began, entry.inFlight(id, at: now, names(entry.call)))
        }
        return oldest.elements
    }

    // MARK: Coming and going

    /// Takes in a new entry, which waits until it is taken for submission.
    ///
    /// Done before its message goes anywhere, so that the fastest reply finds it.
    mutating func begin(
        _ id: RequestID,
        kind: Kind,
        call: Call,
        deadline: CompactInstant,
        retries: Int = 0,
        now: CompactInstant = .now
    ) throws(Refusal) {
        try admit()
        entries[id] = Entry(
            kind: kind,
            call: call,
            deadline: deadline,
            began: now,
            retriesLeft: Int16(clamping: retries)
        )
        deadlines.insert(id, at: deadline)
    }

    /// The same, and then takes it for submission at once, when there is a way for it, a place, and nobody that it would
    /// overtake. Otherwise it stands in line.
    mutating func begin(
        _ id: RequestID,
        kind: Kind,
        call: Call,
        deadline: CompactInstant,
        retries: Int,
        route: UInt32?,
        now: CompactInstant
    ) throws(Refusal) -> Submission? {
        guard let route, line.isEmpty, submitted < limit else {
            try begin(id, kind: kind, call: call, deadline: deadline, retries: retries, now: now)
            enqueue(id)
            return nil
        }
        try admit()
        var entry = Entry(
            kind: kind,
            call: call,
            deadline: deadline,
            began: now,
            retriesLeft: Int16(clamping: retries)
        )
        let submission = submit(&entry, id, route: route, now: now)
        entries[id] = entry
        deadlines.insert(id, at: deadline)
        return submission
    }

    private func admit() throws(Refusal) {
        if isClosed { throw .closed }
        if isDraining { throw .draining }
        // Subtracted, since the sum may be more than an integer holds.
        guard entries.count - limit < overflow else { throw .overloaded(limit: limit) }
    }

    /// Takes an entry out, for a reply or a cancellation. `nil`: it has ended already, or never was.
    mutating func remove(_ id: RequestID) -> Ending? {
        entries.index(forKey: id).map { remove(at: $0) }
    }

    private mutating func remove(at index: Dictionary<RequestID, Entry>.Index) -> Ending {
        let entry = entries.remove(at: index).value
        if entry.phase == .submitted { submitted -= 1 }
        deadlines.prune(to: entries.count) { [entries] in entries[$0] != nil }
        return Ending(entry)
    }

    /// Takes out the call that a reply is for. A cast or a readiness waits for none: its id in a reply is forged.
    mutating func reply(to id: RequestID) -> Ending? {
        guard let index = entries.index(forKey: id), entries[index].value.kind == .call else { return nil }
        return remove(at: index)
    }

    /// Takes out everything whose deadline has passed.
    mutating func expire(at now: CompactInstant) -> [Ending] {
        var expired: [Ending] = []
        while let id = deadlines.popDue(at: now) {
            if let ending = remove(id) { expired.append(ending) }
        }
        return expired
    }

    /// No reply will come any more to what was sent by this route, or by any: calls that were handed to a channel end, wait to be sent
    /// again, or go back into the line when `withdraw` says that their message was never written.
    mutating func repliesLost(route: UInt32? = nil, withdraw: (Call) -> Bool) -> RepliesLost {
        var lost = RepliesLost()
        for (id, entry) in entries where entry.kind == .call && entry.phase == .submitted {
            if let route, entry.route != route { continue }
            if withdraw(entry.call) {
                waitAgain(id, doubt: nil)
                lost.withdrawn.append(id)
            } else if entry.retriesLeft > 0 {
                lost.retries.append(retry(id, entry, doubt: .repliesLost))
            } else if let ending = remove(id) {
                lost.ended.append(ending)
            }
        }
        return lost
    }

    /// From now on nothing new comes in; what is there goes on. Returns those who wait for readiness: it will not come.
    mutating func drain() -> [Ending] {
        isDraining = true
        let ids = entries.lazy.filter { $0.value.kind == .readiness }.map(\.key)
        return Array(ids).compactMap { remove($0) }
    }

    /// The end of the table: every entry ends, and nothing new comes in.
    mutating func close() -> [Ending] {
        isClosed = true
        let endings = entries.values.map { Ending($0) }
        entries = [:]
        line = []
        deadlines = DeadlineHeap()
        submitted = 0
        return endings
    }

    // MARK: Sending

    /// Takes an entry to be handed to a channel. `nil`: it has ended, is on its way already, or there is no place for it.
    mutating func take(_ id: RequestID, route: UInt32 = 0, now: CompactInstant) -> Submission? {
        guard submitted < limit, var entry = entries[id], entry.phase == .waiting else { return nil }
        defer { entries[id] = entry }
        return submit(&entry, id, route: route, now: now)
    }

    private mutating func submit(
        _ entry: inout Entry,
        _ id: RequestID,
        route: UInt32,
        now: CompactInstant
    ) -> Submission {
        entry.phase = .submitted
        entry.attempts += 1
        entry.route = route
        submitted += 1
        return Submission(
            id: id,
            call: entry.call,
            remaining: now.duration(to: entry.deadline),
            attempt: Int(entry.attempts)
        )
    }

    /// Puts a waiting entry at the end of the line for a channel.
    mutating func enqueue(_ id: RequestID) {
        guard let entry = entries[id], entry.phase == .waiting else { return }
        line.append(id)
        // Entries that ended while they stood in line are dropped when they are reached; many of them at once here.
        if line.count > 2 * entries.count + 64 {
            line = Deque(line.filter { entries[$0]?.phase == .waiting })
        }
    }

    /// Whether anything stands in line that there is a place for.
    var hasQueued: Bool { !line.isEmpty && submitted < limit }

    /// Whether a new entry may overtake nobody.
    var isQueueEmpty: Bool { line.isEmpty }

    /// Takes the first in line that still waits.
    mutating func takeFirstQueued(route: UInt32 = 0, now: CompactInstant) -> Submission? {
        guard submitted < limit else { return nil }
        while let id = line.popFirst() {
            if let submission = take(id, route: route, now: now) { return submission }
        }
        return nil
    }

    /// The broker's, or the channel's, answer to a submitted message. There is one for each attempt.
    mutating func outcome(_ outcome: Outcome, of id: RequestID, attempt: Int) -> Decision {
        guard let entry = entries[id], entry.phase == .submitted, Int(entry.attempts) == attempt else { return .none }
        switch outcome {
        case .confirmed, .presumedDelivered:
            return entry.kind == .call ? .none : ended(id)
        case .refused:
            return ended(id)
        case .nacked, .returned, .unknown:
            guard entry.retriesLeft > 0 else { return ended(id) }
            return .retry(retry(id, entry, doubt: outcome == .unknown ? .connectionLost : nil))
        case .notWritten:
            waitAgain(id, doubt: nil)
            return .sendAgain(id, attempts: attempt)
        }
    }

    /// The broker returned a message of which no more than the id is known: the one that was submitted last.
    mutating func returned(_ id: RequestID) -> Decision {
        guard let entry = entries[id] else { return .none }
        return outcome(.returned, of: id, attempt: Int(entry.attempts))
    }

    private mutating func retry(_ id: RequestID, _ entry: Entry, doubt: Doubt?) -> Retry {
        waitAgain(id, doubt: doubt)
        entries[id]?.retriesLeft -= 1
        return Retry(id: id, call: entry.call, attempts: Int(entry.attempts), doubt: doubt ?? entry.doubt)
    }

    private mutating func waitAgain(_ id: RequestID, doubt: Doubt?) {
        entries[id]?.phase = .waiting
        if let doubt { entries[id]?.doubt = doubt }
        submitted -= 1
    }

    private mutating func ended(_ id: RequestID) -> Decision {
        guard let ending = remove(id) else { return .none }
        return .ended(ending)
    }
}

extension PendingTable.Ending {
    fileprivate init(_ entry: PendingTable.Entry) {
        call = entry.call
        wasSubmitted = entry.phase == .submitted
        attempts = Int(entry.attempts)
        retriesLeft = Int(entry.retriesLeft)
        doubt = entry.doubt
    }
}

extension PendingTable.Entry {
    fileprivate func inFlight(
        _ id: RequestID,
        at now: CompactInstant,
        _ names: (destination: String, procedure: String?)
    ) -> CallInFlight {
        CallInFlight(
            id: id.description,
            destination: names.destination,
            procedure: names.procedure ?? "",
            age: began.duration(to: now),
            remaining: now.duration(to: deadline),
            stage: phase == .submitted ? .sent : .waiting,
            attempts: Int(attempts)
        )
    }
}
