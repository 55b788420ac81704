import Histogram
import Synchronization

/// The latencies of many tasks at once, told by an HDR histogram.
///
/// Recording only keeps the number, and the histogram is made at the end: its own recording is generic code that costs a
/// microsecond, which would count as the library's.
public final class Latencies: Sendable {
    private final class Shard: Sendable {
        let nanoseconds = Mutex<[Int64]>([])
    }

    private let shards = (0..<16).map { _ in Shard() }

    /// Nothing recorded.
    public init() {}

    /// Records what a call of this task took.
    public func record(_ duration: Duration, by task: Int) {
        shards[task % shards.count].nanoseconds.withLock { $0.append(duration.nanoseconds) }
    }

    /// Forgets everything.
    public func reset() {
        for shard in shards { shard.nanoseconds.withLock { $0.removeAll(keepingCapacity: true) } }
    }

    /// The latencies in microseconds that these percentages of the calls did not exceed.
    public func microseconds(atPercentiles percentiles: [Double]) -> [Double] {
        // Up to ten minutes, in nanoseconds, to three digits.
        var all = Histogram<UInt64>(highestTrackableValue: 600_000_000_000, numberOfSignificantValueDigits: .three)
        for shard in shards {
            for value in shard.nanoseconds.withLock({ $0 }) { all.record(UInt64(max(0, value))) }
        }
        return percentiles.map { Double(all.valueAtPercentile($0)) / 1000 }
    }
}

extension Duration {
    /// The whole of it in nanoseconds.
    public var nanoseconds: Int64 {
        components.seconds * 1_000_000_000 + components.attoseconds / 1_000_000_000
    }

    /// The whole of it in seconds.
    public var inSeconds: Double { Double(nanoseconds) / 1e9 }
}
