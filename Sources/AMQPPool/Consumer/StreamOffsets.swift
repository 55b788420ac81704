import HeapModule

/// Up to where a stream has been dealt with: all before ``next`` is settled.
struct StreamOffsets: Sendable {
    private var offsets: [UInt64: Int64] = [:]
    private var unsettled = Heap<Int64>()
    private var settled: Set<Int64> = []
    /// Where consuming goes on; nil before anything came.
    private(set) var next: Int64?
    /// Behind what came last; nil before anything came.
    private(set) var afterLast: Int64?

    mutating func delivered(_ tag: UInt64, _ offset: Int64) {
        offsets[tag] = offset
        unsettled.insert(offset)
        if next == nil { next = offset }
        afterLast = offset + 1
    }

    /// Returns where consuming goes on, when that has moved.
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

    /// Its place in the stream, if it came from one: brokers write it, and publishers can.
    package var streamOffset: Int64? {
        guard case .int64(let offset)? = properties.headers[Self.streamOffsetHeader], (0..<Int64.max).contains(offset)
        else { return nil }
        return offset
    }
}
