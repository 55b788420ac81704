/// The message in each shard's queue that is held by the node that holds the shard.
///
/// The node that gets it is the broker's active consumer. When it inherits the token of another node, it publishes the next token, with a
/// greater number, before it handles a request. The number of an activation is therefore greater than those of all earlier activations of
/// the shard: a fencing token for external writes.
struct ShardToken: Codable, Sendable, Equatable {
    /// The number of the node that published it.
    var number: Int64
    /// The node's name; empty in a shard that nobody has held.
    var node: String
    /// The ids of requests that were started again after their host was lost, which they may have caused, with the number of starts.
    var suspects: [String: Int]?

    init(number: Int64, node: String) {
        self.number = number
        self.node = node
    }

    /// The maximum integer of a JSON number in any language: 2 to the power of 53.
    static let maximumNumber: Int64 = 9_007_199_254_740_992

    /// How far a number may be ahead of this node's clock: half of the range, 140,000 years in milliseconds. Dropping a valid token would
    /// let the numbers of a shard go back, so no wrong clock may cause that: neither that of a machine that booted in 1970, nor that of the
    /// node which claimed the shard first.
    static let maximumLead: Int64 = maximumNumber / 2

    /// Whether it can be a valid token. Anybody can write to a queue, and a number that cannot increase would end the shard. Numbers
    /// increase by one with each claim, and the accepted maximum by one each millisecond, so the next number is accepted too.
    func isPlausible(at clock: Int64) -> Bool {
        number >= 0 && number <= Self.maximumNumber && number - Self.maximumLead <= max(0, clock)
    }

    /// The property `type` of the message.
    static let messageType = "shard-token"
}
