import DequeModule

/// Which deliveries of a channel are not settled, so that acknowledgements of the first of them can be one frame.
///
/// A broker takes an acknowledgement of several to mean all before it that it has not heard of. So one covers nothing but what is
/// acknowledged with it, and what was settled before.
struct UnsettledTags: Sendable {
    /// An acknowledgement to be sent.
    struct Acknowledgement: Sendable, Hashable {
        var tag: UInt64
        var multiple = false
    }

    /// More than a channel may have unsettled: one that waits for long, and many that come and go behind it.
    static let limit = 4 * Int(UInt16.max)

    /// The first that is not settled, or the next that comes. A channel numbers its deliveries from 1 on, one after another.
    private var first: UInt64 = 1
    /// Of those from the first on, whether they are settled.
    private var isSettled = Deque<Bool>()
    /// Others than these may be unsettled on the channel: from before, or fetched. From now on each has a frame of its own.
    private var isLost = false

    mutating func delivered(_ tag: UInt64) {
        guard !isLost else { return }
        guard tag == first + UInt64(isSettled.count), isSettled.count < Self.limit else {
            isLost = true
            isSettled.removeAll()
            return
        }
        isSettled.append(false)
    }

    /// One is settled by itself.
    mutating func settled(_ tag: UInt64) {
        note(tag)
        removeSettled()
    }

    /// These are acknowledged. Returns what is to be sent for that.
    mutating func acknowledged(_ tags: [UInt64]) -> [Acknowledgement] {
        let before = first
        for tag in tags { note(tag) }
        removeSettled()
        guard !isLost, first > before else { return tags.map { Acknowledgement(tag: $0) } }
        let covered = tags.filter { $0 < first }
        var result = tags.filter { $0 >= first }.map { Acknowledgement(tag: $0) }
        if let last = covered.max() {
            result.insert(Acknowledgement(tag: last, multiple: covered.count > 1), at: 0)
        }
        return result
    }

    private mutating func note(_ tag: UInt64) {
        guard tag >= first, tag - first < UInt64(isSettled.count) else { return }
        isSettled[Int(tag - first)] = true
    }

    private mutating func removeSettled() {
        while isSettled.first == true {
            isSettled.removeFirst()
            first += 1
        }
    }
}
