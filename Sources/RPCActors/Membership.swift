/// Which nodes of a service there are, from what they say of themselves and what the broker says of those that are gone.
///
/// A node says hello when it is ready and whenever somebody asks; its end is said once, by the broker (its last will) or by itself. A
/// name that ended never comes back: a node that lost its life has another one, so a hello that is late does not bring it to life
/// again. After a time without a connection nothing is known: everybody is asked, and who has not answered when ``settle()`` is called
/// is gone.
struct Membership: Sendable, Equatable {
    /// How many ended names are remembered. A hello is late by seconds at most.
    private static let rememberedEnds = 1000

    /// What a node says of itself.
    struct Hello: Sendable, Equatable, Codable {
        var node: String
        /// The kinds of virtual actors that it can hold, each with the number of shards: `account/64`.
        var kinds: [String] = []
        /// Greater with each hello of the node: they go over different channels, and one may overtake another.
        var number: Int64?
    }

    private var kinds: [String: Set<String>] = [:]
    private var numbers: [String: Int64] = [:]
    private var unconfirmed: Set<String> = []
    private var ended: Set<String> = []
    private var endedInOrder: [String] = []

    /// The nodes, as far as is known.
    var nodes: Set<String> { Set(kinds.keys) }

    /// Those that can hold virtual actors of this kind.
    func nodes(holding kind: String) -> Set<String> {
        Set(kinds.lazy.filter { $0.value.contains(kind) }.map(\.key))
    }

    /// In which other numbers of shards any node holds the kind.
    func otherCounts(of name: ShardName) -> Set<String> {
        Set(
            kinds.values.joined().filter { $0 != name.heldKind && $0.hasPrefix("\(name.kind)/") }
                .map { String($0.dropFirst(name.kind.count + 1)) }
        )
    }

    func hasEnded(_ node: String) -> Bool { ended.contains(node) }

    /// A node says that it is there. Returns whether anything changed.
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

    /// A node has ended. Returns whether it was there.
    mutating func ended(_ node: String) -> Bool {
        if ended.insert(node).inserted {
            endedInOrder.append(node)
            if endedInOrder.count > Self.rememberedEnds { ended.remove(endedInOrder.removeFirst()) }
        }
        unconfirmed.remove(node)
        numbers[node] = nil
        return kinds.removeValue(forKey: node) != nil
    }

    /// Ends may have been missed: all are asked again.
    mutating func reconnected() {
        unconfirmed = nodes
    }

    /// Who was asked after a reconnect has had time to answer. Returns those that did not, and are taken for gone.
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
