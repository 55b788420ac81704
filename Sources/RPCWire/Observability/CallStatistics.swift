/// How many calls ended, in which ways and after what time, for each procedure: bounded, over the last minute.
///
/// A pure value. No more than ``limit`` procedures are kept apart; what comes after is counted under `_OTHER`, so that names from
/// outside cannot fill the memory.
package struct CallStatistics: Sendable {
    package struct Key: Hashable, Sendable {
        /// The service that was called; empty for a receiver's own.
        package var destination: String
        package var procedure: String

        package init(destination: String = "", procedure: String) {
            self.destination = destination
            self.procedure = procedure
        }
    }

    /// What is known of one procedure.
    package struct Series: Sendable {
        /// Since the watching began.
        package fileprivate(set) var total = 0
        /// By outcome, since the watching began; `ok` among them.
        package fileprivate(set) var outcomes: [String: Int] = [:]
        fileprivate var recent = RecentDurations()
    }

    /// What is shown of one procedure.
    package struct Summary: Sendable {
        package var key: Key
        package var total: Int
        package var outcomes: [String: Int]
        /// A second, over the last ten.
        package var rate: Double
        /// Over the last minute.
        package var median: Duration?
        package var p99: Duration?
        package var longest: Duration
    }

    package static let limit = 200
    package static let maximumOutcomes = 32
    package static let secondsKept = 60

    private var series: [Key: Series] = [:]
    private var all = Series()
    private var since: CompactInstant

    package init(since: CompactInstant) {
        self.since = since
    }

    /// How many procedures are kept apart.
    package var count: Int { series.count }

    package mutating func record(_ key: Key, outcome: String, _ duration: Duration, at now: CompactInstant) {
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

    /// How many ended in each of the last ``secondsKept`` seconds, the oldest first, without the one that is under way.
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

/// The last minute, in seconds for counts and in quarters for durations.
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
        // What lies further apart than is kept has cleared everything; this one counts as cleared too.
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
        // One less than are kept: the one that is under way takes the place of the oldest.
        ((second - CallStatistics.secondsKept + 1)..<second).map { count(in: $0) }
    }

    func lastMinute(_ second: Int) -> DurationSketch {
        let oldest = second / Self.secondsPerQuarter - Self.quarters + 1
        return sketches.reduce(into: DurationSketch()) { sum, entry in
            if entry.quarter >= oldest { sum.add(entry.sketch) }
        }
    }
}
