import DequeModule

/// Messages whose publishers wait for room in the outbox, in order of arrival.
///
/// There is one per publishing task, which holds the message anyway.
struct WaitingPublishes {
    private var publishes: [UInt64: Publish] = [:]
    /// May contain ids that no longer wait.
    private var order = Deque<UInt64>()

    var isEmpty: Bool { publishes.isEmpty }

    var count: Int { publishes.count }

    /// The message whose turn it is.
    var first: Publish? {
        mutating get {
            while let id = order.first {
                if let publish = publishes[id] { return publish }
                order.removeFirst()
            }
            return nil
        }
    }

    /// - Parameter id: Greater than all ids before.
    mutating func append(_ publish: Publish, _ id: UInt64) {
        publishes[id] = publish
        order.append(id)
    }

    /// Removes the first message.
    mutating func removeFirst() {
        _ = first
        if let id = order.popFirst() { publishes[id] = nil }
    }

    /// Removes a message whose publisher no longer waits. Returns whether it was waiting.
    mutating func remove(_ id: UInt64) -> Bool {
        guard publishes.removeValue(forKey: id) != nil else { return false }
        // Ids that gave up behind one that still waits must not accumulate.
        if order.count > 2 * publishes.count + 64 { order.removeAll { publishes[$0] == nil } }
        return true
    }

    /// Removes and returns all messages, in order.
    mutating func removeAll() -> [Publish] {
        defer {
            publishes = [:]
            order = []
        }
        return order.compactMap { publishes[$0] }
    }
}
