import HeapModule

/// The deadlines of all waiting entries, earliest first.
///
/// An entry that ends before its deadline is not searched for: it stays until it is popped, or until more than half of the heap are
/// leftovers and ``prune(to:isLive:)`` rebuilds it. The heap therefore holds at most about twice the number of waiting entries, and ending
/// one costs nothing.
///
/// Not generic: the compiler would not specialize it for the modules that use it, and it would be ten times as slow.
package struct DeadlineHeap: Sendable {
    private var heap = Heap<Item>()

    private struct Item: Comparable, Sendable {
        let deadline: CompactInstant
        let id: RequestID

        static func == (left: Item, right: Item) -> Bool { left.deadline == right.deadline }
        static func < (left: Item, right: Item) -> Bool { left.deadline < right.deadline }
    }

    package init() {}

    /// The number of deadlines, including leftovers.
    package var count: Int { heap.count }

    /// The earliest deadline, which may be a leftover's.
    package var earliest: CompactInstant? { heap.min?.deadline }

    /// Adds a deadline.
    package mutating func insert(_ id: RequestID, at deadline: CompactInstant) {
        heap.insert(Item(deadline: deadline, id: id))
    }

    /// Removes and returns one id whose deadline is not after `now`.
    package mutating func popDue(at now: CompactInstant) -> RequestID? {
        guard let first = heap.min, first.deadline <= now else { return nil }
        return heap.removeMin().id
    }

    /// Removes the leftovers, if there are more of them than live entries.
    package mutating func prune(to live: Int, isLive: (RequestID) -> Bool) {
        guard heap.count > 2 * live + 64 else { return }
        heap = Heap(heap.unordered.filter { isLive($0.id) })
    }
}
