import Histogram
import Synchronization

/// The latencies of many tasks at once, in HDR histograms: one for a few tasks each, so that they seldom wait for each other.
public final class Latencies: Sendable {
    private final class Shard: Sendable {
        let histogram = Mutex(Latencies.empty)
    }

    private let shards = (0..<16).map { _ in Shard() }

    /// Nothing recorded.
    public init() {}

    /// Records what a call of this task took.
    public func record(_ duration: Duration, by task: Int) {
        shards[task % shards.count].histogram.withLock { _ = $0.record(UInt64(max(0, duration.nanoseconds))) }
    }

    /// Forgets everything.
    public func reset() {
        for shard in shards { shard.histogram.withLock { $0.reset() } }
    }

    /// The latency in microseconds that this percentage of the calls did not exceed.
    public func microseconds(atPercentile percentile: Double) -> Double {
        var all = Latencies.empty
        for shard in shards { all.add(shard.histogram.withLock { $0 }) }
        return Double(all.valueAtPercentile(percentile)) / 1000
    }

    private static var empty: Histogram<UInt64> {
        // Up to a minute, in nanoseconds, to three digits.
        Histogram(highestTrackableValue: 60_000_000_000, numberOfSignificantValueDigits: .three)
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
