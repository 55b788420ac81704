import DequeModule

/// The messages for one viewer: a bounded number of events, and the newest version of everything else. A slow viewer loses the oldest
/// events, which are counted.
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

    /// Replaces the waiting state by a newer one.
    mutating func replace(_ state: Message) {
        latest = state
    }

    var count: Int { events.count + (latest == nil ? 0 : 1) }

    var isEmpty: Bool { events.isEmpty && latest == nil }

    /// Removes and returns all messages in sending order, and the number of dropped ones, if it has grown.
    mutating func takeAll() -> (messages: [Message], dropped: Int?) {
        defer {
            events.removeAll()
            latest = nil
            toldDropped = dropped
        }
        return (Array(events) + (latest.map { [$0] } ?? []), dropped == toldDropped ? nil : dropped)
    }
}
