import DequeModule
import RPCWire
import Supervision

/// All waiting calls by id: what each waits for, until when, and what an event means for it.
///
/// A pure value: it decides, and the owner acts. Removing an entry is the right to resume its waiter, so each waiter is resumed at most
/// once whatever races: a reply with a timeout, a cancellation with a return, the end of the table with everything.
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
/// A confirm ends a cast; for a call it is ignored, and it may arrive after the reply.
///
/// It has two limits: at most `limit` entries are submitted at once, and at most `overflow` more may wait.
struct PendingTable<Call: Sendable>: Sendable {
    typealias Kind = CallKind

    /// The phase of an entry.
    fileprivate enum Phase: Sendable {
        /// Not sent, or to be sent again. It waits for a channel, for a consumed reply queue, or for a slot.
        case waiting
        /// Passed to a channel.
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
        /// The channel with whose end the reply is lost; 0 for none.
        var route: UInt32 = 0
    }

    /// Why an earlier attempt may have been delivered, although its outcome is unknown.
    enum Doubt: Sendable, Equatable {
        case connectionLost
        case repliesLost
    }

    /// Why nothing more is accepted.
    enum Refusal: Error, Sendable, Equatable {
        case overloaded(limit: Int)
        /// Waiting entries may complete, but no new ones are accepted.
        case draining
        case closed
    }

    /// A message to pass to a channel now.
    struct Submission: Sendable {
        let id: RequestID
        let call: Call
        let remaining: Duration
        /// Counted from 1. The outcome of an attempt other than the current one is ignored.
        let attempt: Int
    }

    /// The outcome of a submitted message (`PublishOutcome`, reduced to what matters here).
    enum Outcome: Sendable {
        case confirmed
        case presumedDelivered
        case nacked
        case returned
        case notWritten
        case unknown
        case refused
    }

    /// What follows from an outcome.
    enum Decision: Sendable {
        /// Nothing: the entry keeps waiting, or has been removed.
        case none
        /// The entry has been removed, and its waiter is resumed.
        case ended(Ending)
        /// It waits for a channel again, and is lined up after this time: nothing of it was written.
        case sendAgain(RequestID, after: Duration)
        /// It may be retried, after a delay.
        case retry(Retry)
    }

    /// An entry that waits for the delay before its retry. A reply to an earlier attempt still ends it.
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
        /// Why one of the attempts before the last may have been delivered; `nil` if none may.
        let doubt: Doubt?
    }

    /// Why an entry has not come to its end before its deadline.
    enum Expiry: Sendable, Equatable {
        /// It was sent, in this attempt or one before it, and nothing was heard.
        case unanswered
        /// There was no place for it among those in flight.
        case overloaded(limit: Int)
        /// It was not sent: something else keeps calls from being sent.
        case unsent
    }

    /// The consequences of the loss of a route for replies.
    struct RepliesLost: Sendable {
        var ended: [Ending] = []
        /// Their messages were not written and have been withdrawn: they wait to be enqueued, and no waiter is affected.
        var withdrawn: [RequestID] = []
        var retries: [Retry] = []
    }

    private var entries: [RequestID: Entry] = [:]
    private var queue = Deque<RequestID>()
    private var deadlines = DeadlineHeap()
    private var submitted = 0
    private let limit: Int
    private let overflow: Int
    private(set) var isDraining = false
    /// Whether the table has ended.
    private(set) var isClosed = false

    /// - Parameters:
    ///   - limit: How many may be in flight.
    ///   - overflow: How many more may wait for a slot.
    init(limit: Int, overflow: Int = 0) {
        self.limit = max(1, limit)
        self.overflow = max(0, overflow)
    }

    /// The number of entries.
    var count: Int { entries.count }

    /// Whether the limit of entries in flight is reached.
    var isFull: Bool { submitted >= limit }

    /// The size of its largest collection, including leftovers of ended entries.
    var remembered: Int { max(entries.count, queue.count, deadlines.count) }

    /// The next deadline to check.
    var earliestDeadline: CompactInstant? { deadlines.earliest }

    // MARK: Inspection

    /// The number of entries passed to a channel.
    var submittedCount: Int { submitted }

    /// The oldest calls and casts. Walks the table.
    func oldest(
        _ limit: Int,
        at now: CompactInstant,
        _ names: (Call) -> (destination: String, procedure: String?)
    ) -> [CallInFlight] {
        var oldest = Oldest<CallInFlight>(limit: limit)
        for (id, entry) in entries where entry.kind.isRequest {
            oldest.offer(entry.began, entry.inFlight(id, at: now, names(entry.call)))
        }
        return oldest.elements
    }

    // MARK: Adding and removing

    /// Adds a new entry, which waits until it is taken for submission.
    ///
    /// Called before its message is sent, so that the fastest reply finds it.
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

    /// The same, and then takes it for submission immediately when there is a route, a slot, and no entry to overtake. Otherwise it is
    /// enqueued.
    mutating func begin(
        _ id: RequestID,
        kind: Kind,
        call: Call,
        deadline: CompactInstant,
        retries: Int,
        route: UInt32?,
        now: CompactInstant
    ) throws(Refusal) -> Submission? {
        guard let route, queue.isEmpty, submitted < limit else {
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
        // Subtracted, because the sum could overflow.
        guard entries.count - limit < overflow else { throw .overloaded(limit: limit) }
    }

    /// Removes an entry for a reply or a cancellation. `nil`: it has already ended, or never existed.
    mutating func remove(_ id: RequestID) -> Ending? {
        entries.index(forKey: id).map { remove(at: $0) }
    }

    private mutating func remove(at index: Dictionary<RequestID, Entry>.Index) -> Ending {
        let entry = entries.remove(at: index).value
        if entry.phase == .submitted { submitted -= 1 }
        deadlines.prune(to: entries.count) { [entries] in entries[$0] != nil }
        return Ending(entry)
    }

    /// Removes the call that a reply is for. A cast or a readiness waits for no reply: its id in a reply is forged.
    mutating func reply(to id: RequestID) -> Ending? {
        guard let index = entries.index(forKey: id), entries[index].value.kind.awaitsReply else { return nil }
        return remove(at: index)
    }

    /// Removes all entries whose deadline has passed.
    ///
    /// - Parameter isWritten: Whether the message of the current attempt was written.
    mutating func expire(at now: CompactInstant, isWritten: (Call) -> Bool) -> [(ending: Ending, why: Expiry)] {
        var expired: [(ending: Ending, why: Expiry)] = []
        // As those found it whose time is over; the first that leaves makes room.
        let wasFull = isFull
        while let id = deadlines.popDue(at: now) {
            guard let ending = remove(id) else { continue }
            if ending.doubt != nil || isWritten(ending.call) {
                expired.append((ending, .unanswered))
            } else {
                expired.append((ending, wasFull ? .overloaded(limit: limit) : .unsent))
            }
        }
        return expired
    }

    /// Replies to requests sent by this route, or by any, are lost: calls that were passed to a channel end, wait for a retry, or are
    /// enqueued again if `withdraw` says that their message was never written.
    mutating func repliesLost(route: UInt32? = nil, withdraw: (Call) -> Bool) -> RepliesLost {
        var lost = RepliesLost()
        for (id, entry) in entries where entry.kind.awaitsReply && entry.phase == .submitted {
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

    /// Accepts no new entries from now on; existing ones continue. Returns those that wait for readiness, which will not come.
    mutating func drain() -> [Ending] {
        isDraining = true
        let ids = entries.lazy.filter { !$0.value.kind.isRequest }.map(\.key)
        return Array(ids).compactMap { remove($0) }
    }

    /// Ends the table: every entry ends, and no new ones are accepted.
    mutating func close() -> [Ending] {
        isClosed = true
        let endings = entries.values.map { Ending($0) }
        entries = [:]
        queue = []
        deadlines = DeadlineHeap()
        submitted = 0
        return endings
    }

    // MARK: Sending

    /// Takes an entry to pass it to a channel. `nil`: it has ended, is already in flight, or there is no slot for it.
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

    /// Appends a waiting entry to the queue for a channel.
    mutating func enqueue(_ id: RequestID) {
        guard let entry = entries[id], entry.phase == .waiting else { return }
        queue.append(id)
        // Entries that end while queued are removed when they are reached; in bulk here if there are many.
        if queue.count > 2 * entries.count + 64 {
            queue = Deque(queue.filter { entries[$0]?.phase == .waiting })
        }
    }

    /// Whether there is a queued entry, and a slot for it.
    var hasQueued: Bool { !queue.isEmpty && submitted < limit }

    /// Takes the first queued entry that still waits.
    mutating func takeFirstQueued(route: UInt32 = 0, now: CompactInstant) -> Submission? {
        guard submitted < limit else { return nil }
        while let id = queue.popFirst() {
            if let submission = take(id, route: route, now: now) { return submission }
        }
        return nil
    }

    /// Handles the broker's or the channel's answer to a submitted message. There is one per attempt.
    mutating func outcome(_ outcome: Outcome, of id: RequestID, attempt: Int) -> Decision {
        guard let entry = entries[id], entry.phase == .submitted, Int(entry.attempts) == attempt else { return .none }
        switch outcome {
        case .confirmed, .presumedDelivered:
            return entry.kind.awaitsReply ? .none : ended(id)
        case .refused:
            return ended(id)
        case .nacked, .returned, .unknown:
            guard entry.retriesLeft > 0 else { return ended(id) }
            return .retry(retry(id, entry, doubt: outcome == .unknown ? .connectionLost : nil))
        case .notWritten:
            waitAgain(id, doubt: nil)
            return .sendAgain(id, after: Self.pause(afterUnwritten: attempt))
        }
    }

    /// How long to wait when attempts were not written. A channel that is ending refuses at once, and the registry learns of its end
    /// a moment later.
    private static func pause(afterUnwritten attempts: Int) -> Duration {
        attempts < 3 ? .zero : .milliseconds(min(100, 1 << min(attempts, 7)))
    }

    /// Ends an entry that waits for its next attempt when there is no time left for that. `nil`: there is, or it has ended already.
    mutating func endUnlessTime(for retry: Retry, after delay: Duration, now: CompactInstant) -> Ending? {
        guard let entry = entries[retry.id], now + delay >= entry.deadline else { return nil }
        return remove(retry.id)
    }

    /// The broker returned a message of which only the id is known: that of the last submission.
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
