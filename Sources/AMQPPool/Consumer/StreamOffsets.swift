import HeapModule

/// The progress in a stream: everything before ``next`` is settled.
struct StreamOffsets: Sendable {
    private var offsets: [UInt64: Int64] = [:]
    private var unsettled = Heap<Int64>()
    private var settled: Set<Int64> = []
    /// Where to continue; `nil` before the first message.
    private(set) var next: Int64?
    /// The offset after the last received message; `nil` before the first.
    private(set) var afterLast: Int64?

    mutating func delivered(_ tag: UInt64, _ offset: Int64) {
        offsets[tag] = offset
        unsettled.insert(offset)
        if next == nil { next = offset }
        afterLast = offset + 1
    }

    /// Returns where to continue, if that has changed.
    mutating func settled(_ tag: UInt64) -> Int64? {
        guard let offset = offsets.removeValue(forKey: tag) else { return nil }
        settled.insert(offset)
        let before = next
        while let first = unsettled.min, settled.remove(first) != nil {
            unsettled.removeMin()
            next = first + 1
        }
        return next == before ? nil : next
    }
}

extension Delivery {
    static let streamOffsetHeader = "x-stream-offset"

    /// The offset in the stream. Brokers write it, and publishers can forge it.
    package var streamOffset: Int64? {
        guard case .int64(let offset)? = properties.headers[Self.streamOffsetHeader], (0..<Int64.max).contains(offset)
        else { return nil }
        return offset
    }
}
