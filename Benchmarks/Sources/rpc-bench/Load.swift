import BenchmarkSupport
import Synchronization

/// Calls from a number of tasks at once.
final class Load: Sendable {
    struct Result {
        var calls = 0
        var errors = 0
        var seconds = 0.0
        /// Of this whole process, in microseconds.
        var cpu = 0.0
    }

    let latencies = Latencies()
    private let inflight: Int
    private let interval: Duration?
    private let body: @Sendable () async throws -> Bool
    private let begun = Atomic<Int>(0)
    private let finished = Atomic<Int>(0)
    private let errors = Atomic<Int>(0)
    private let isOver = Atomic<Bool>(false)

    init(inflight: Int, rate: Double, body: @escaping @Sendable () async throws -> Bool) {
        self.inflight = inflight
        interval = rate > 0 ? .seconds(1 / rate) : nil
        self.body = body
    }

    /// One call.
    func call() async throws {
        guard try await body() else { throw LoadError.wrongAnswer }
    }

    /// Makes so many calls, and waits for all of them.
    @discardableResult
    func run(calls limit: Int) async -> Result {
        let mark = begin()
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<inflight { group.addTask { await self.work(number, since: mark.start, limit: limit) } }
        }
        return result(since: mark.start, mark.cpu)
    }

    /// Runs for a while, and then counts what ends in the time given; the calls under way go on in between.
    func run(warmup: Duration, for time: Duration) async -> Result {
        let start = begin().start
        var result = Result()
        await withTaskGroup(of: Void.self) { group in
            for number in 0..<inflight { group.addTask { await self.work(number, since: start, limit: .max) } }
            try? await Task.sleep(for: warmup)
            let mark = beginCounting()
            try? await Task.sleep(until: mark.start + time)
            result = self.result(since: mark.start, mark.cpu)
            isOver.store(true, ordering: .relaxed)
        }
        return result
    }

    private func begin() -> (start: ContinuousClock.Instant, cpu: Double) {
        begun.store(0, ordering: .relaxed)
        isOver.store(false, ordering: .relaxed)
        return beginCounting()
    }

    private func beginCounting() -> (start: ContinuousClock.Instant, cpu: Double) {
        latencies.reset()
        finished.store(0, ordering: .relaxed)
        errors.store(0, ordering: .relaxed)
        return (.now, Usage.cpuMicroseconds)
    }

    private func result(since start: ContinuousClock.Instant, _ cpu: Double) -> Result {
        Result(
            calls: finished.load(ordering: .relaxed),
            errors: errors.load(ordering: .relaxed),
            seconds: (ContinuousClock.now - start).inSeconds,
            cpu: Usage.cpuMicroseconds - cpu
        )
    }

    private func work(_ number: Int, since start: ContinuousClock.Instant, limit: Int) async {
        while !isOver.load(ordering: .relaxed) {
            let ticket = begun.add(1, ordering: .relaxed).oldValue
            if ticket >= limit { return }
            var begin = ContinuousClock.now
            if let interval {
                let due = start + interval * ticket
                if begin < due {
                    // What it is late then is the timer's.
                    try? await Task.sleep(until: due, tolerance: .zero)
                    begin = .now
                } else {
                    begin = due
                }
                if isOver.load(ordering: .relaxed) { return }
            }
            let isRight = (try? await body()) ?? false
            let end = ContinuousClock.now
            if isOver.load(ordering: .relaxed) { return }
            latencies.record(end - begin, by: number)
            finished.add(1, ordering: .relaxed)
            if !isRight { errors.add(1, ordering: .relaxed) }
        }
    }
}

enum LoadError: Error, CustomStringConvertible {
    case wrongAnswer

    var description: String { "the answer is not what was asked for" }
}
