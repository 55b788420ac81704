import Supervision
import SupervisionTesting
import Testing

/// Each setting at values that nobody means: it works, or an error names it.
@Suite("Settings at their extremes")
struct ExtremeSettingsTests {
    static let durations: [Duration] = [
        .zero, .seconds(-1), .seconds(Int64.max), .seconds(Int64.min), Duration(attoseconds: .max),
        Duration(attoseconds: .min),
    ]

    /// Starts the tree, lets its child crash once, and stops it.
    private func play(_ supervisor: Supervisor, _ clock: ManualClock, setting: String) async throws {
        do {
            try await supervisor.start()
        } catch SupervisionError.invalidSpecification(let text) {
            #expect(text.contains(setting), "the error does not name \(setting): \(text)")
            return
        } catch SupervisionError.failedToStart {
            // No time to start in is a time too.
            return
        }
        if (try? LiveTree(supervisor).process("app/worker")) != nil {
            try LiveTree(supervisor).end("app/worker", by: .crash())
            try await LiveTree(supervisor).settled()
        }
        _ = supervisor.tree().description
        let stop = Task { await supervisor.stop() }
        while supervisor.pid != nil {
            clock.advanceToNextTimer()
            await Task.yield()
        }
        _ = await stop.value
    }

    private func play(_ clock: ManualClock, _ child: Child, setting: String) async throws {
        try await play(Supervisor("app", clock: clock) { child }, clock, setting: setting)
    }

    @Test("the durations of a child", arguments: durations)
    func child(duration: Duration) async throws {
        let clock = ManualClock()
        try await play(
            clock,
            Child("worker", options: ChildOptions(shutdown: .timeout(duration))) { Polite($0, Journal()) },
            setting: "shutdown timeout"
        )
        try await play(
            clock,
            Child("worker", options: ChildOptions(startTimeout: duration)) { Polite($0, Journal()) },
            setting: "startTimeout"
        )
        try await play(
            clock,
            Child("worker", options: ChildOptions(killTimeout: duration)) { Polite($0, Journal()) },
            setting: "killTimeout"
        )
        try await play(
            clock,
            Child("worker", options: ChildOptions(heartbeatTimeout: duration)) { Polite($0, Journal()) },
            setting: "heartbeatTimeout"
        )
        for backoff in [
            Backoff(minimum: duration), Backoff(maximum: duration), Backoff(minimum: duration, maximum: duration),
            Backoff(resetAfter: duration),
        ] {
            try await play(
                clock,
                Child("worker", options: ChildOptions(backoff: backoff)) { Polite($0, Journal()) },
                setting: "backoff"
            )
        }
    }

    @Test("the durations of a supervisor", arguments: durations)
    func supervisor(duration: Duration) async throws {
        let clock = ManualClock()
        try await play(
            Supervisor("app", intensity: .init(3, within: duration), clock: clock) {
                Child("worker") { Polite($0, Journal()) }
            },
            clock,
            setting: "period"
        )
        for restarts in [0, 3] {
            try await play(
                Supervisor(
                    "app",
                    intensity: .init(restarts, within: .seconds(5)),
                    whenExceeded: .cooldown(duration),
                    clock: clock
                ) { Child("worker") { Polite($0, Journal()) } },
                clock,
                setting: "cooldown"
            )
        }
        try await play(
            Supervisor("app", shutdown: .timeout(duration), clock: clock) {
                Child("worker") { Polite($0, Journal()) }
            },
            clock,
            setting: "shutdown timeout"
        )
    }

    @Test("the counts of a supervisor", arguments: [0, -1, Int.max, Int.min])
    func counts(count: Int) async throws {
        let clock = ManualClock()
        for strategy in [Strategy.oneForOne, .oneForAll, .restForOne] {
            let supervisor = Supervisor(
                "app",
                strategy: strategy,
                intensity: .init(count, within: .seconds(5)),
                clock: clock
            ) { Child("worker") { Polite($0, Journal()) } }
            try await play(supervisor, clock, setting: "intensity")
        }
        let dynamic = Supervisor("app", clock: clock) { DynamicSupervisor("children", maximumChildren: count) }
        try await play(dynamic, clock, setting: "maximumChildren")
        let partitions = PartitionSupervisor<Counter>("app", partitions: count > 100 ? count : min(count, 8)) { id, _ in
            Child(id) { _ in Counter() }
        }
        try await play(partitions.supervisor, clock, setting: "partitions")
        let tasks = Supervisor("app") { TaskSupervisor("tasks") }
        try await tasks.start()
        var sum = 0
        for try await case (_, .success(let value)) in try tasks.taskSupervisor("tasks")
            .stream(over: [1, 2, 3], maximumConcurrency: count, { $0 })
        {
            sum += value
        }
        #expect(sum == 6)
        await tasks.stop()
    }

    @Test("an intensity that nothing exceeds keeps no list of restarts, and no restart is one too many")
    func noLimit() async throws {
        let supervisor = Supervisor("app", intensity: .init(.max, within: .seconds(3600))) {
            Child("worker") { _ in Counter() }
        }
        try await supervisor.start()
        for _ in 1...100 {
            try LiveTree(supervisor).end("app/worker")
            try await LiveTree(supervisor).settled()
        }
        #expect(supervisor.pid?.isAlive == true)
        await supervisor.stop()
    }

    @Test("the deadline of a call", arguments: durations)
    func call(duration: Duration) async throws {
        let supervisor = Supervisor("app") { Child("counter") { _ in Counter() } }
        try await supervisor.start()
        let counter = try supervisor.child("counter", as: Counter.self)
        do {
            #expect(try await counter.call(timeout: duration) { $0.increment() } == 1)
        } catch CallError.timeout(_, let after) {
            #expect(duration <= .zero)
            _ = "\(after)"
        }
        await supervisor.stop()
    }

    @Test("timers and waits of a test", arguments: durations)
    func clocks(duration: Duration) async throws {
        let timer = SystemSupervisionClock.shared.schedule(after: duration) {}
        timer.cancel()
        let clock = ManualClock()
        _ = clock.schedule(after: duration) {}
        clock.advance(by: duration)
        clock.advance(by: duration)
        clock.advanceToNextTimer()
        let supervisor = Supervisor("app") {}
        try await supervisor.start()
        do {
            try await LiveTree(supervisor).settled(within: duration)
        } catch {
            #expect(duration <= .zero)
        }
        await supervisor.stop()
    }

    @Test("the numbers of a storm", arguments: [0, -1, Int.max, Int.min])
    func storm(count: Int) async throws {
        func chaos() -> Chaos {
            Chaos { clock in
                Supervisor("app", intensity: .init(1_000_000, within: .seconds(1)), clock: clock) {
                    Child("counter") { _ in Counter() }
                }
            }
        }
        // As many as fit in the time.
        _ = try await chaos().storm(seed: 1, kills: min(count, 20_000), lasting: .milliseconds(10))
        _ = try await chaos().storm(seed: 1, kills: 5, pace: .atOnce(count))
        _ = try await chaos().pairs(sample: count)
        _ = try await chaos().matrix([.failingRestart(.times(max(count, -1) > 100 ? 3 : count))])
    }

    @Test("the times of a storm", arguments: durations)
    func stormTimes(duration: Duration) async throws {
        let chaos = Chaos(timeout: .seconds(30), stallTimeout: .milliseconds(50)) { clock in
            Supervisor("app", intensity: .init(1_000_000, within: .seconds(1)), clock: clock) {
                Child("counter") { _ in Counter() }
            }
        }
        _ = try await chaos.storm(seed: 1, kills: 3, lasting: duration, pace: .pausing(duration))
        do {
            _ = try await chaos.storm(seed: 1, kills: 3, pace: .every(duration))
        } catch is Chaos.Failure {
            // Time that passes while a process is killed is taken from its kill timeout.
            #expect(duration > .zero)
        }
    }
}
