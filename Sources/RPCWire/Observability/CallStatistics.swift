/// The number and durations of ended calls by outcome and procedure, over the last minute, with bounds.
///
/// A pure value. At most ``limit`` procedures are distinguished; later ones are counted under `_OTHER`, so that names from outside cannot
/// fill the memory.
package struct CallStatistics: Sendable {
    package struct Key: Hashable, Sendable {
        /// The called service; empty for a receiver's own.
        package var destination: String
        package var procedure: String

        init(destination: String = "", procedure: String) {
            self.destination = destination
            self.procedure = procedure
        }
    }

    /// The data of one procedure.
    struct Series: Sendable {
        /// Since watching began.
        package fileprivate(set) var total = 0
        /// By outcome, including `ok`, since watching began.
        package fileprivate(set) var outcomes: [String: Int] = [:]
        fileprivate var recent = RecentDurations()
    }

    /// The summary of one procedure.
    package struct Summary: Sendable {
        package var key: Key
        package var total: Int
        package var outcomes: [String: Int]
        /// Per second, over the last ten.
        package var rate: Double
        /// Over the last minute.
        package var median: Duration?
        package var p99: Duration?
        package var longest: Duration
    }

    static let limit = 200
    static let maximumOutcomes = 32
    static let secondsKept = 60

    private var series: [Key: Series] = [:]
    private var all = Series()
    private var since: CompactInstant

    init(since: CompactInstant) {
        self.since = since
    }

    /// The number of distinguished procedures.
    var count: Int { series.count }

    mutating func record(_ key: Key, outcome: String, _ duration: Duration, at now: CompactInstant) {
        let second = self.second(now)
        var key = key
        if series[key] == nil, series.count >= Self.limit {
            key = Key(destination: key.destination.isEmpty ? "" : otherName, procedure: otherName)
        }
        series[key, default: Series()].record(outcome, duration, second)
        all.record(outcome, duration, second)
    }

    /// All procedures, the busiest first.
    package func summaries(at now: CompactInstant) -> [Summary] {
        let second = self.second(now)
        return series.map { $0.value.summary($0.key, second, since: since, now) }
            .sorted { ($0.rate, $0.total) > ($1.rate, $1.total) }
    }

    /// All procedures together.
    package func summary(at now: CompactInstant) -> Summary {
        all.summary(Key(procedure: ""), second(now), since: since, now)
    }

    /// The number of calls that ended in each of the last ``secondsKept`` seconds, oldest first, without the current second.
    package func perSecond(at now: CompactInstant) -> [Int] {
        all.recent.perSecond(before: second(now))
    }

    private func second(_ now: CompactInstant) -> Int {
        max(0, Int(clamping: since.duration(to: now).components.seconds))
    }
}

extension CallStatistics.Series {
    fileprivate mutating func record(_ outcome: String, _ duration: Duration, _ second: Int) {
        total += 1
        let isKnown = outcomes[outcome] != nil || outcomes.count < CallStatistics.maximumOutcomes
        outcomes[isKnown ? outcome : otherName, default: 0] += 1
        recent.record(duration, second)
    }

    fileprivate func summary(
        _ key: CallStatistics.Key,
        _ second: Int,
        since: CompactInstant,
        _ now: CompactInstant
    ) -> CallStatistics.Summary {
        let sketch = recent.lastMinute(second)
        let seconds = min(10, max(1, second))
        let counts = recent.perSecond(before: second).suffix(seconds)
        return CallStatistics.Summary(
            key: key,
            total: total,
            outcomes: outcomes,
            rate: second == 0 ? Double(recent.count(in: 0)) : Double(counts.reduce(0, +)) / Double(seconds),
            median: sketch.quantile(0.5),
            p99: sketch.quantile(0.99),
            longest: sketch.longest
        )
    }
}

/// The last minute, with counts per second and durations per quarter.
private struct RecentDurations: Sendable {
    private static let quarters = 5
    private static let secondsPerQuarter = 15

    private var counts: [Int32] = []
    private var lastSecond = 0
    private var sketches: [(quarter: Int, sketch: DurationSketch)] = []

    mutating func record(_ duration: Duration, _ second: Int) {
        advance(to: second)
        counts[second % CallStatistics.secondsKept] += 1
        let quarter = second / Self.secondsPerQuarter
        if let last = sketches.indices.last, sketches[last].quarter == quarter {
            sketches[last].sketch.record(duration)
        } else {
            if sketches.count == Self.quarters { sketches.removeFirst() }
            var sketch = DurationSketch()
            sketch.record(duration)
            sketches.append((quarter, sketch))
        }
    }

    private mutating func advance(to second: Int) {
        if counts.isEmpty {
            counts = Array(repeating: 0, count: CallStatistics.secondsKept)
            lastSecond = second
        }
        guard second > lastSecond else { return }
        for passed in (lastSecond + 1)...min(second, lastSecond + CallStatistics.secondsKept) {
            counts[passed % CallStatistics.secondsKept] = 0
        }
        // A gap longer than the kept time has cleared everything, including this second.
        counts[second % CallStatistics.secondsKept] = 0
        lastSecond = second
    }

    func count(in second: Int) -> Int {
        guard !counts.isEmpty, second >= 0, second <= lastSecond, lastSecond - second < CallStatistics.secondsKept
        else {
            return 0
        }
        return Int(counts[second % CallStatistics.secondsKept])
    }

    func perSecond(before second: Int) -> [Int] {
        // One fewer than are kept: the current second takes the place of the oldest.
        ((second - CallStatistics.secondsKept + 1)..<second).map { count(in: $0) }
    }

    func lastMinute(_ second: Int) -> DurationSketch {
        let oldest = second / Self.secondsPerQuarter - Self.quarters + 1
        return sketches.reduce(into: DurationSketch()) { sum, entry in
            if entry.quarter >= oldest { sum.add(entry.sketch) }
        }
    }
}
