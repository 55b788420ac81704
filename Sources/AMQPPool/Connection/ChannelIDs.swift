/// The channel numbers of one connection: 1 to a limit, each in use at most once. O(1).
struct ChannelIDs {
    let limit: UInt16
    private var freed: [UInt16] = []
    private var highest: UInt16 = 0

    init(limit: UInt16) {
        self.limit = limit
    }

    /// An unused number; `nil` when all are in use.
    mutating func allocate() -> UInt16? {
        if let id = freed.popLast() { return id }
        guard highest < limit else { return nil }
        highest += 1
        return highest
    }

    /// Frees a number returned by ``allocate()``. Called once per number.
    mutating func release(_ id: UInt16) {
        freed.append(id)
    }
}
