/// The requests of a shard that were delivered again because their host was lost: one of them may have ended it, and would end the next.
///
/// On a classic queue the broker counts no deliveries. So before such a request is begun its count goes into the shard's token, which the
/// next host inherits; when it is over it is forgotten. What is only given back, without having been begun, is not counted.
struct Suspects: Sendable, Equatable {
    /// How often a request is begun again.
    static let limit = 3
    /// More are not remembered: as many at most ran at the same time.
    private static let maximumCount = 256

    private var counts: [String: Int] = [:]

    /// As the token has it.
    var tokenValue: [String: Int]? { counts.isEmpty ? nil : counts }

    /// What a token says, which may come from anywhere.
    mutating func inherit(_ inherited: [String: Int]?) {
        for (id, count) in (inherited ?? [:]).prefix(Self.maximumCount) where counts.count < Self.maximumCount {
            counts[id] = max(counts[id] ?? 0, min(max(0, count), Self.limit))
        }
    }

    /// A request that was delivered before is about to be begun. `false`: it was begun too often.
    mutating func begin(_ id: String) -> Bool {
        let count = counts[id] ?? 0
        guard count < Self.limit else { return false }
        if counts.count < Self.maximumCount || counts[id] != nil { counts[id] = count + 1 }
        return true
    }

    /// It is over, and its host is still here.
    mutating func end(_ id: String) { counts[id] = nil }
}
