import DequeModule

/// The unsettled deliveries of a channel, so that acknowledgements that are written together take as few frames as possible.
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
    /// Whether the tags did not arrive as expected, or too many are unsettled. From then on each acknowledgement has its own frame.
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

    /// This delivery and all earlier ones are settled.
    private mutating func settledAll(upTo tag: UInt64) {
        // 0 stands for all deliveries so far.
        while !isSettled.isEmpty, tag == 0 || first <= tag {
            isSettled.removeFirst()
            first += 1
        }
        removeSettled()
    }

    /// Replaces consecutive acknowledgements by as few as cover them, and records what the entries settle. Every other entry stays, in
    /// its place.
    ///
    /// - Returns: By how many entries there are fewer.
    mutating func combineAcknowledgements(_ entries: inout [ChannelOutbox.Entry]) -> Int {
        var kept = 0
        var index = 0
        while index < entries.count {
            switch entries[index] {
            case .acknowledge(let tag, multiple: false):
                let tags = UnsettledTags.run(in: entries, from: index)
                guard tags.count > 1 else {
                    settled(tag)
                    break
                }
                index += tags.count
                // At most as many as before.
                for acknowledgement in acknowledged(tags) {
                    entries[kept] = .acknowledge(
                        deliveryTag: acknowledgement.tag,
                        multiple: acknowledgement.multiple
                    )
                    kept += 1
                }
                continue
            case .acknowledge(let tag, multiple: true): settledAll(upTo: tag)
            case .reject(let tag, _), .giveBack(let tag): settled(tag)
            case .publish: break
            }
            if kept != index { entries.swapAt(kept, index) }
            kept += 1
            index += 1
        }
        let removed = entries.count - kept
        entries.removeLast(removed)
        return removed
    }

    /// The tags of consecutive acknowledgements; none if there is only one.
    private static func run(in entries: [ChannelOutbox.Entry], from start: Int) -> [UInt64] {
        var tags: [UInt64] = []
        for index in start..<entries.count {
            guard case .acknowledge(let tag, multiple: false) = entries[index] else { break }
            if index == start + 1, case .acknowledge(let first, _) = entries[start] { tags.append(first) }
            if index > start { tags.append(tag) }
        }
        return tags
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
