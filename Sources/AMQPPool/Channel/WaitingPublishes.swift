import DequeModule

/// Messages whose publishers wait for room in the outbox, in the order in which they came.
///
/// As many as there are tasks that publish; each holds its own message, as its task does.
struct WaitingPublishes {
    private var publishes: [UInt64: Publish] = [:]
    /// With ids of some that wait no longer.
    private var order = Deque<UInt64>()

    var isEmpty: Bool { publishes.isEmpty }

    var count: Int { publishes.count }

    /// The one whose turn it is.
    var first: Publish? {
        mutating get {
            while let id = order.first {
                if let publish = publishes[id] { return publish }
                order.removeFirst()
            }
            return nil
        }
    }

    /// - Parameter id: greater than all before.
    mutating func append(_ publish: Publish, _ id: UInt64) {
        publishes[id] = publish
        order.append(id)
    }

    /// Takes the first one out.
    mutating func removeFirst() {
        _ = first
        if let id = order.popFirst() { publishes[id] = nil }
    }

    /// This one waits no longer. Returns whether it did.
    mutating func remove(_ id: UInt64) -> Bool {
        guard publishes.removeValue(forKey: id) != nil else { return false }
        // Those that give up behind one that does not must not pile up.
        if order.count > 2 * publishes.count + 64 { order.removeAll { publishes[$0] == nil } }
        return true
    }

    /// Takes all out, in their order.
    mutating func removeAll() -> [Publish] {
        defer {
            publishes = [:]
            order = []
        }
        return order.compactMap { publishes[$0] }
    }
}
