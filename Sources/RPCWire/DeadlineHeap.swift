import HeapModule

/// The deadlines of everything that waits, earliest first.
///
/// What ends before its deadline is not searched for: it stays until it is popped, or until more than half of the heap is
/// such leftovers and ``prune(to:isLive:)`` rebuilds it. So the heap holds at most about twice what waits, and both inserting and
/// ending cost what they would cost without a deadline.
///
/// Not generic: the compiler would not specialize it for the modules that use it, and it would cost ten times as much.
package struct DeadlineHeap: Sendable {
    private var heap = Heap<Item>()

    private struct Item: Comparable, Sendable {
        let deadline: CompactInstant
        let id: RequestID

        static func == (left: Item, right: Item) -> Bool { left.deadline == right.deadline }
        static func < (left: Item, right: Item) -> Bool { left.deadline < right.deadline }
    }

    package init() {}

    /// How many deadlines it holds, leftovers included.
    package var count: Int { heap.count }

    /// The earliest deadline, which may be a leftover's.
    package var earliest: CompactInstant? { heap.min?.deadline }

    /// Adds a deadline.
    package mutating func insert(_ id: RequestID, at deadline: CompactInstant) {
        heap.insert(Item(deadline: deadline, id: id))
    }

    /// Takes out one id whose deadline is not after `now`.
    package mutating func popDue(at now: CompactInstant) -> RequestID? {
        guard let first = heap.min, first.deadline <= now else { return nil }
        return heap.removeMin().id
    }

    /// Drops the leftovers, if they have become more than what lives.
    package mutating func prune(to live: Int, isLive: (RequestID) -> Bool) {
        guard heap.count > 2 * live + 64 else { return }
        heap = Heap(heap.unordered.filter { isLive($0.id) })
    }
}
