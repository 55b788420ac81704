import Testing

@testable import RPCWire

@Suite("Statistics of calls")
struct CallStatisticsTests {
    private let start = CompactInstant.now

    @Test("a quantile is the truth or up to an eighth above it, at every size")
    func precision() throws {
        var nanoseconds: Int64 = 1001
        while nanoseconds < 3_600_000_000_000 {
            var sketch = DurationSketch()
            sketch.record(.nanoseconds(nanoseconds))
            // A longer one, or the quantile would be cut off at the longest.
            sketch.record(.seconds(4000))
            let found = try #require(sketch.quantile(0.5)).wholeNanoseconds
            #expect(found >= nanoseconds)
            #expect(Double(found) <= Double(nanoseconds) * 1.126)
            nanoseconds = nanoseconds * 21 / 20 + 1
        }
    }

    @Test("quantiles of many are those of the sorted list, in the sketch's precision")
    func quantiles() throws {
        var sketch = DurationSketch()
        for milliseconds in 1...1000 { sketch.record(.milliseconds(milliseconds)) }
        let (median, p99) = (try #require(sketch.quantile(0.5)), try #require(sketch.quantile(0.99)))
        #expect((Duration.milliseconds(500) ... .milliseconds(563)).contains(median))
        #expect((Duration.milliseconds(990) ... .milliseconds(1000)).contains(p99))
        #expect(sketch.quantile(1) == .milliseconds(1000))
        #expect(sketch.quantile(0) == sketch.quantile(0.001))
        #expect(sketch.longest == .milliseconds(1000))
    }

    @Test(
        "nothing that a clock may say breaks a sketch",
        arguments: [
            Duration.zero, .nanoseconds(-5), .seconds(-1_000_000), .nanoseconds(1), .seconds(Int64.max),
            .seconds(1_000_000_000_000),
        ]
    )
    func extremes(duration: Duration) {
        var sketch = DurationSketch()
        sketch.record(duration)
        #expect(sketch.quantile(0.5) != nil)
        #expect(sketch.count == 1)
        #expect(DurationSketch().quantile(0.5) == nil)
        #expect(sketch.quantile(2) == nil)
        #expect(sketch.quantile(.nan) == nil)
    }

    @Test("calls are counted by procedure and outcome, and the busiest comes first")
    func counts() {
        var statistics = CallStatistics(since: start)
        for number in 0..<30 {
            statistics.record(
                .init(destination: "math", procedure: number < 20 ? "add" : "fib"),
                outcome: number % 10 == 0 ? "timeout" : "ok",
                .milliseconds(3),
                at: start + .milliseconds(100)
            )
        }
        let summaries = statistics.summaries(at: start + .seconds(2))
        #expect(summaries.map(\.key.procedure) == ["add", "fib"])
        #expect(summaries[0].outcomes == ["ok": 18, "timeout": 2])
        #expect(summaries[0].rate == 10)
        #expect(statistics.summary(at: start + .seconds(2)).total == 30)
        #expect(statistics.perSecond(at: start + .seconds(2)).suffix(2) == [30, 0])
    }

    @Test("rates and durations are those of the last time, and what is older is forgotten")
    func forgets() {
        var statistics = CallStatistics(since: start)
        let key = CallStatistics.Key(destination: "math", procedure: "add")
        for second in 0..<5 {
            statistics.record(key, outcome: "ok", .seconds(1), at: start + .seconds(second))
        }
        let later = start + .seconds(300)
        let summary = statistics.summary(at: later)
        #expect(summary.rate == 0)
        #expect(summary.median == nil)
        #expect(summary.total == 5)
        statistics.record(key, outcome: "ok", .milliseconds(1), at: later)
        #expect(statistics.summary(at: later + .seconds(1)).longest == .milliseconds(1))
        #expect(statistics.perSecond(at: later + .seconds(1)).reduce(0, +) == 1)
        #expect(statistics.perSecond(at: later + .seconds(1)).count == CallStatistics.secondsKept - 1)
    }

    @Test("names and outcomes from outside fill no memory")
    func bounded() {
        var statistics = CallStatistics(since: start)
        for number in 0..<5000 {
            statistics.record(
                .init(destination: "service-\(number)", procedure: "p\(number)"),
                outcome: "outcome-\(number)",
                .milliseconds(1),
                at: start
            )
        }
        #expect(statistics.count <= CallStatistics.limit + 2)
        #expect(statistics.summary(at: start).outcomes.count <= CallStatistics.maximumOutcomes + 1)
        #expect(statistics.summary(at: start).outcomes.values.reduce(0, +) == 5000)
    }

    @Test("the oldest of many are kept, the oldest first")
    func oldest() {
        var oldest = Oldest<Int>(limit: 3)
        for number in [5, 2, 9, 1, 7, 3] { oldest.offer(start + .seconds(number), number) }
        #expect(oldest.elements == [1, 2, 3])
        var none = Oldest<Int>(limit: 0)
        none.offer(start, 1)
        #expect(none.elements.isEmpty)
    }

    @Test("nothing is counted while nobody watches, and what was counted goes with the last who did")
    func observation() {
        let observation = CallObservation()
        observation.record(procedure: "add", outcome: "ok", since: start)
        #expect(!observation.isWatched)
        observation.watch()
        observation.watch()
        observation.record(procedure: "add", outcome: "ok", since: start)
        observation.unwatch()
        #expect(observation.isWatched)
        #expect(observation.statistics?.count == 1)
        observation.unwatch()
        observation.unwatch()
        #expect(!observation.isWatched)
        #expect(observation.statistics == nil)
    }
}
