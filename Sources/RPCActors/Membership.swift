/// The nodes of a service, according to their own announcements and the broker's reports of lost nodes.
///
/// A node announces itself when it is ready and whenever somebody asks; its end is reported once, by the broker (its last will) or by
/// itself. A name that has ended never comes back: a node that was declared lost gets a new one, so a late announcement does not revive it.
/// After a time without a connection the membership is uncertain: everybody is asked, and nodes that have not answered when ``settle()`` is
/// called are removed.
struct Membership: Sendable, Equatable {
    /// The number of ended names to remember. An announcement is late by seconds at most.
    private static let rememberedEnds = 1000

    /// The announcement of a node.
    struct Hello: Sendable, Equatable, Codable {
        var node: String
        /// The kinds of virtual actors that it can hold, each with the number of shards: `account/64`.
        var kinds: [String] = []
        /// Increases with each announcement of the node: they are sent on different channels, and one may overtake another.
        var number: Int64?
    }

    private var kinds: [String: Set<String>] = [:]
    private var numbers: [String: Int64] = [:]
    private var unconfirmed: Set<String> = []
    private var ended: Set<String> = []
    private var endedInOrder: [String] = []

    /// The known nodes.
    var nodes: Set<String> { Set(kinds.keys) }

    /// The nodes that can hold virtual actors of this kind.
    func nodes(holding kind: String) -> Set<String> {
        Set(kinds.lazy.filter { $0.value.contains(kind) }.map(\.key))
    }

    /// The other numbers of shards in which nodes hold the kind.
    func otherCounts(of name: ShardName) -> Set<String> {
        Set(
            kinds.values.joined().filter { $0 != name.heldKind && $0.hasPrefix("\(name.kind)/") }
                .map { String($0.dropFirst(name.kind.count + 1)) }
        )
    }

    func hasEnded(_ node: String) -> Bool { ended.contains(node) }

    /// A node has announced itself. Returns whether anything changed.
    mutating func hello(_ hello: Hello) -> Bool {
        guard !ended.contains(hello.node) else { return false }
        unconfirmed.remove(hello.node)
        if let number = hello.number {
            guard number >= numbers[hello.node] ?? number else { return false }
            numbers[hello.node] = number
        }
        let new = Set(hello.kinds)
        return kinds.updateValue(new, forKey: hello.node) != new
    }

    /// A node has ended. Returns whether it was known.
    mutating func ended(_ node: String) -> Bool {
        if ended.insert(node).inserted {
            endedInOrder.append(node)
            if endedInOrder.count > Self.rememberedEnds { ended.remove(endedInOrder.removeFirst()) }
        }
        unconfirmed.remove(node)
        numbers[node] = nil
        return kinds.removeValue(forKey: node) != nil
    }

    /// Ends may have been missed: all nodes are asked again.
    mutating func reconnected() {
        unconfirmed = nodes
    }

    /// The nodes asked after a reconnect have had time to answer. Removes and returns those that did not.
    mutating func settle() -> Set<String> {
        let silent = unconfirmed
        for node in silent {
            kinds[node] = nil
            numbers[node] = nil
        }
        unconfirmed = []
        return silent
    }
}
