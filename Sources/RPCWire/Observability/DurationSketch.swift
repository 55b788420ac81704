/// A distribution of durations in bounded memory: counts in buckets that are each an eighth of a power of two wide, so that a quantile is
/// at most 9 % too high, for any number of durations.
struct DurationSketch: Sendable, Equatable {
    /// Up to 1 µs, then eight buckets per doubling, up to more than an hour.
    private static let bucketsPerDoubling = 8
    static let bucketCount = 32 * bucketsPerDoubling + 1

    private var buckets: [UInt32] = []
    package private(set) var count = 0
    package private(set) var longest = Duration.zero

    init() {}

    mutating func record(_ duration: Duration) {
        if buckets.isEmpty { buckets = Array(repeating: 0, count: Self.bucketCount) }
        let bucket = Self.bucket(of: duration)
        buckets[bucket] = buckets[bucket] == .max ? .max : buckets[bucket] + 1
        count += 1
        longest = max(longest, duration)
    }

    mutating func add(_ other: DurationSketch) {
        guard !other.buckets.isEmpty else { return }
        if buckets.isEmpty { buckets = Array(repeating: 0, count: Self.bucketCount) }
        for index in buckets.indices {
            let (sum, overflow) = buckets[index].addingReportingOverflow(other.buckets[index])
            buckets[index] = overflow ? .max : sum
        }
        count += other.count
        longest = max(longest, other.longest)
    }

    /// The duration that this part of all durations does not exceed; `nil` when there is none.
    ///
    /// - Parameter part: From 0 to 1; 0.99 for the 99th percentile.
    func quantile(_ part: Double) -> Duration? {
        let total = buckets.reduce(0) { $0 + Int($1) }
        guard total > 0, part >= 0, part <= 1 else { return nil }
        let rank = max(1, Int((Double(total) * part).rounded(.up)))
        var seen = 0
        for (index, bucket) in buckets.enumerated() {
            seen += Int(bucket)
            if seen >= rank { return min(Self.upperBound(of: index), longest) }
        }
        return longest
    }

    /// The bucket with the smallest upper bound that is not below the duration.
    private static func bucket(of duration: Duration) -> Int {
        let nanoseconds = UInt64(clamping: duration.wholeNanoseconds)
        guard nanoseconds > 1000 else { return 0 }
        // The position of the highest bit, and the three bits after it.
        let scaled = (nanoseconds - 1) / 125
        let exponent = 63 - scaled.leadingZeroBitCount
        let step = Int((scaled >> UInt64(exponent - 3)) & 7)
        return min((exponent - 3) * bucketsPerDoubling + step + 1, bucketCount - 1)
    }

    private static func upperBound(of bucket: Int) -> Duration {
        guard bucket > 0 else { return .microseconds(1) }
        let (doubling, step) = (bucket - 1).quotientAndRemainder(dividingBy: bucketsPerDoubling)
        let scaled = (UInt64(8 + step) + 1) << UInt64(doubling)
        return .nanoseconds(Int64(clamping: scaled * 125))
    }
}
