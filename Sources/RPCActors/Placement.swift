/// Which node each shard should be on: the same answer on every node that knows the same members, without anybody to ask.
///
/// Rendezvous hashing: each pair of a node and a shard has a weight, and the heaviest node has the shard. When a node comes it takes
/// its share from all others, and when it goes its share falls to all others; nothing else moves. With 64 shards or more the shares are
/// alike; with few of them one node may have most.
enum Placement {
    /// The owner of a shard, or `nil` when there is no node.
    static func owner(of shard: String, among nodes: some Collection<String>) -> String? {
        nodes.max { left, right in
            let (leftWeight, rightWeight) = (weight(left, shard), weight(right, shard))
            // Equal weights do not happen, but if they did every node must still agree.
            return leftWeight == rightWeight ? left < right : leftWeight < rightWeight
        }
    }

    private static func weight(_ node: String, _ shard: String) -> UInt64 {
        StableHash.value("\(node)|\(shard)")
    }
}
