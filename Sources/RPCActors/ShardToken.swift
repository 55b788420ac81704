/// The message that lies in each shard's queue and is held by the node that holds the shard.
///
/// Whoever gets it is the broker's active consumer; whoever inherits it from another node publishes the next one, with a greater number,
/// before it works on a request. So the number of an activation is greater than those of all activations of the shard before: a
/// fence for what it writes elsewhere.
struct ShardToken: Codable, Sendable, Equatable {
    /// The number of the node that published it.
    var number: Int64
    /// Its name; empty in a shard that nobody has held.
    var node: String
    /// Requests that were begun again after their host was lost, and how often: the ids of those that may have ended it.
    var suspects: [String: Int]?

    init(number: Int64, node: String) {
        self.number = number
        self.node = node
    }

    /// What fits into a JSON number that any language reads: 2 to the power of 53.
    static let maximumNumber: Int64 = 9_007_199_254_740_992

    /// How far a number may be ahead of this node's clock: half of what there is, 140,000 years of milliseconds. A token that is dropped
    /// although it is good lets the numbers of a shard go back, so no clock that is wrong may lead to that: not that of a machine which
    /// came up in 1970, nor that of the node which claimed the shard first.
    static let maximumLead: Int64 = maximumNumber / 2

    /// Whether it can be one of ours. A queue can be written to by anybody, and a number that cannot grow would end the shard. Numbers
    /// grow by one with each claim, and what is accepted grows by one each millisecond: so the next number is accepted again.
    func isPlausible(at clock: Int64) -> Bool {
        number >= 0 && number <= Self.maximumNumber && number - Self.maximumLead <= max(0, clock)
    }

    /// The property `type` of the message.
    static let messageType = "shard-token"
}
