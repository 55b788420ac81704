import DequeModule

/// What waits to be sent to one viewer: a bounded number of events, and the newest state of everything else. A viewer that
/// reads slowly loses the oldest events, which are counted.
struct ViewerQueue<Message: Sendable>: Sendable {
    private var events = Deque<Message>()
    private var latest: Message?
    private let limit: Int
    private(set) var dropped = 0
    private var toldDropped = 0

    init(limit: Int) {
        self.limit = max(1, limit)
    }

    mutating func append(_ event: Message) {
        if events.count == limit {
            events.removeFirst()
            dropped += 1
        }
        events.append(event)
    }

    /// The state of all, which replaces the one that waits.
    mutating func replace(_ state: Message) {
        latest = state
    }

    var count: Int { events.count + (latest == nil ? 0 : 1) }

    var isEmpty: Bool { events.isEmpty && latest == nil }

    /// Takes all that waits, in the order in which it is to be sent; and how many were dropped, when those have become more.
    mutating func takeAll() -> (messages: [Message], dropped: Int?) {
        defer {
            events.removeAll()
            latest = nil
            toldDropped = dropped
        }
        return (Array(events) + (latest.map { [$0] } ?? []), dropped == toldDropped ? nil : dropped)
    }
}
