import DequeModule

/// The places of a bounded ``KeyedSupervisor``, as a value: each process that is starting, running or ending occupies one.
///
/// A key waits for a place only if one is certain to become free, so at most as many keys wait as processes are ending.
struct KeyedPlaces<Ticket: Sendable>: Sendable {
    enum Answer: Sendable {
        case granted
        /// A place is granted when the next process has ended.
        case queued
        /// There is no place, and none is about to become free.
        case full
    }

    let limit: Int
    private(set) var used = 0
    private(set) var leaving = 0
    private var waiting: Deque<Ticket> = []

    init(limit: Int) {
        self.limit = limit
    }

    var queued: Int { waiting.count }

    mutating func admit(_ ticket: Ticket) -> Answer {
        if used < limit {
            used += 1
            return .granted
        }
        guard waiting.count < leaving else { return .full }
        waiting.append(ticket)
        return .queued
    }

    /// A process has been asked to end.
    mutating func announceLeaving() {
        leaving += 1
    }

    /// A process has ended. Returns the ticket that gets its place.
    mutating func free(wasLeaving: Bool) -> Ticket? {
        if wasLeaving { leaving = max(0, leaving - 1) }
        if let next = waiting.popFirst() { return next }
        used = max(0, used - 1)
        return nil
    }
}
