import DequeModule

/// The unsettled deliveries of a channel, so that acknowledging the first of them takes one frame.
///
/// A broker applies an acknowledgement of several deliveries to all unsettled ones before it. An acknowledgement therefore covers only
/// deliveries that are acknowledged with it or have been settled before.
struct UnsettledTags: Sendable {
    /// An acknowledgement to send.
    struct Acknowledgement: Sendable, Hashable {
        var tag: UInt64
        var multiple = false
    }

    /// More than a channel can have unsettled: one delivery that waits for long, and many that come and go after it.
    static let limit = 4 * Int(UInt16.max)

    /// The first unsettled delivery, or the next one to arrive. A channel numbers its deliveries consecutively from 1.
    private var first: UInt64 = 1
    /// Whether the deliveries from the first on are settled.
    private var isSettled = Deque<Bool>()
    /// Whether other deliveries may be unsettled on the channel: earlier or fetched ones. From then on each acknowledgement has its own
    /// frame.
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

    /// A single delivery is settled.
    mutating func settled(_ tag: UInt64) {
        note(tag)
        removeSettled()
    }

    /// These deliveries are acknowledged. Returns the frames to send.
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
