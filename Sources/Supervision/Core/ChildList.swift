/// The children of one supervisor in start order: a doubly linked list over slots, with an index by id.
///
/// Lookup by id, append and remove are O(1).
struct ChildList<Element: Sendable>: Sendable {
    typealias Slot = Int

    private struct Node: Sendable {
        var element: Element?
        var previous: Slot?
        var next: Slot?
    }

    private var nodes: [Node] = []
    private var free: [Slot] = []
    private var slots: [String: Slot] = [:]
    private(set) var first: Slot?
    private(set) var last: Slot?

    var count: Int { slots.count }

    func slot(of id: String) -> Slot? { slots[id] }

    func next(after slot: Slot) -> Slot? { nodes.indices.contains(slot) ? nodes[slot].next : nil }

    subscript(slot: Slot) -> Element? {
        get { nodes.indices.contains(slot) ? nodes[slot].element : nil }
        _modify {
            if nodes.indices.contains(slot) {
                yield &nodes[slot].element
            } else {
                var nothing: Element?
                yield &nothing
            }
        }
    }

    /// Updates the child in this slot in place, if there is one.
    @discardableResult
    mutating func update<Result>(_ slot: Slot, _ body: (inout Element) -> Result) -> Result? {
        guard nodes.indices.contains(slot) else { return nil }
        return nodes[slot].element.update(body)
    }

    /// Appends a child and returns its slot; `nil` when the id is taken.
    mutating func append(_ element: Element, id: String) -> Slot? {
        guard slots[id] == nil else { return nil }
        let slot: Slot
        let node = Node(element: element, previous: last, next: nil)
        if let reused = free.popLast() {
            slot = reused
            nodes[slot] = node
        } else {
            slot = nodes.count
            nodes.append(node)
        }
        if let last { nodes[last].next = slot } else { first = slot }
        last = slot
        slots[id] = slot
        return slot
    }

    mutating func remove(_ slot: Slot, id: String) {
        guard slots[id] == slot, nodes.indices.contains(slot) else { return }
        slots[id] = nil
        let node = nodes[slot]
        if let previous = node.previous { nodes[previous].next = node.next } else { first = node.next }
        if let next = node.next { nodes[next].previous = node.previous } else { last = node.previous }
        nodes[slot] = Node(element: nil, previous: nil, next: nil)
        free.append(slot)
    }

    /// The slots from `start` (or the first) to the last, in start order.
    func slots(from start: Slot? = nil) -> [Slot] {
        var result: [Slot] = []
        var current = start ?? first
        while let slot = current {
            result.append(slot)
            current = next(after: slot)
        }
        return result
    }
}
