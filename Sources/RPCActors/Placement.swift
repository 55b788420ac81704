/// The assignment of shards to nodes: the same on every node that knows the same members, without coordination.
///
/// Rendezvous hashing: each pair of node and shard has a weight, and the node with the highest weight gets the shard. A new node takes its
/// share from all others, and the share of a lost node goes to all others; nothing else moves. With 64 shards or more the shares are
/// similar; with few shards one node may get most of them.
enum Placement {
    /// The owner of a shard; `nil` when there is no node.
    static func owner(of shard: String, among nodes: some Collection<String>) -> String? {
        nodes.max { left, right in
            let (leftWeight, rightWeight) = (weight(left, shard), weight(right, shard))
            // Equal weights are practically impossible, but every node must agree even then.
            return leftWeight == rightWeight ? left < right : leftWeight < rightWeight
        }
    }

    private static func weight(_ node: String, _ shard: String) -> UInt64 {
        StableHash.value("\(node)|\(shard)")
    }
}
