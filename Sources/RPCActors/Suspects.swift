/// The requests of a shard that were redelivered because their host was lost: one of them may have caused that, and would end the next host
/// too.
///
/// On a classic queue the broker does not count deliveries. Before such a request is started its count is therefore stored in the shard's
/// token, which the next host inherits; when the request ends, it is removed. Requests that are returned without having been started are
/// not counted.
struct Suspects: Sendable, Equatable {
    /// The maximum number of starts of a request.
    static let limit = 3
    /// The maximum number of entries: at most that many ran concurrently.
    private static let maximumCount = 256

    private var counts: [String: Int] = [:]

    /// The value for the token.
    var tokenValue: [String: Int]? { counts.isEmpty ? nil : counts }

    /// Adopts the value of a token, which is untrusted.
    mutating func inherit(_ inherited: [String: Int]?) {
        for (id, count) in (inherited ?? [:]).prefix(Self.maximumCount) where counts.count < Self.maximumCount {
            counts[id] = max(counts[id] ?? 0, min(max(0, count), Self.limit))
        }
    }

    /// A redelivered request is about to be started. `false`: it was started too often.
    mutating func begin(_ id: String) -> Bool {
        let count = counts[id] ?? 0
        guard count < Self.limit else { return false }
        if counts.count < Self.maximumCount || counts[id] != nil { counts[id] = count + 1 }
        return true
    }

    /// It has ended, and its host is still running.
    mutating func end(_ id: String) { counts[id] = nil }
}
