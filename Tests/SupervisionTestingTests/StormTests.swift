import Supervision
import SupervisionTesting
import Synchronization
import Testing

@Suite("Storms", .timeLimit(.minutes(2)))
struct StormTests {
    /// Breaks when `a` is killed and, later, `d` crashes: a bug of two steps.
    private func delicate(_ seen: Shared<[String]> = Shared([])) -> Chaos {
        Chaos(invariants: [
            Chaos.Invariant("the two never happen one after the other", before: { _ in }) { scene, _ in
                let tree = scene.tree.supervisor
                let memory = try tree.child("memory", as: Keeper.self)
                for kill in scene.kills {
                    seen.with { $0.append(kill.description) }
                    if kill.path == "app/a", kill.way == .kill { try await memory.call { $0.set("a", 1) } }
                    if kill.path == "app/d", kill.way == .crash {
                        let isArmed = try await memory.call { $0.get("a") } == 1
                        try Chaos.require(!isArmed, "d crashed after a was killed")
                    }
                }
            }
        ]) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("memory") { _ in Keeper() }
                for id in ["a", "b", "c", "d", "e"] { Child(id) { Waiter($0) } }
            }
        }
    }

    @Test("shrink thirty kills to the two that matter, and the two can be played again")
    func shrinks() async throws {
        let chaos = delicate()
        let failure = try #require(
            try await failure {
                try await chaos.storm(
                    seed: 14,
                    kills: 60,
                    weights: [.kill: 1, .crash: 1],
                    only: { $0.path != "app/memory" }
                )
            }
        )
        let found = try #require(failure.report.failures.first)
        #expect(found.original > 2)
        #expect(found.scenario.steps.map { $0.map { "\($0.way) \($0.path)" } } == [["kill app/a"], ["crash app/d"]])
        #expect(failure.report.seed == 14)
        let again = try await SupervisionTestingTests.failure { try await chaos.replay(found.scenario) }
        #expect(again?.report.failures.first?.findings.map(\.description) == found.findings.map(\.description))
        let text = try #require(Chaos.Scenario(found.scenario.description))
        #expect(text == found.scenario)
        try await chaos.replay("crash app/d; kill app/a")
    }

    @Test("do the same for the same seed, and something else for another")
    func seeds() async throws {
        func kills(_ seed: UInt64) async throws -> [String] {
            let report = try await Chaos { clock in
                Supervisor("app", logger: quiet, clock: clock) {
                    for id in ["a", "b", "c"] { Child(id) { Waiter($0) } }
                }
            }
            .storm(seed: seed, kills: 40)
            return report.rows.flatMap(\.kills).map(\.description)
        }
        let first = try await kills(7)
        #expect(try await kills(7) == first)
        #expect(try await kills(8) != first)
        #expect(first.count == 40)
    }

    @Test(
        "may come at any pace",
        arguments: [Chaos.Pace.rested, .settled, .pausing(.milliseconds(10)), .every(.milliseconds(1)), .atOnce(5)]
    )
    func paces(pace: Chaos.Pace) async throws {
        let chaos = Chaos { clock in
            Supervisor("app", intensity: .init(10_000, within: .seconds(1)), logger: quiet, clock: clock) {
                for strategy in [Strategy.oneForOne, .oneForAll, .restForOne] {
                    Supervisor("\(strategy)", strategy: strategy, intensity: .init(10_000, within: .seconds(1))) {
                        Child("a") { Waiter($0) }
                        Child("b") { _ in Keeper() }
                        Child("c") { Waiter($0, asked: false) }
                    }
                }
            }
        }
        let report = try await chaos.storm(seed: 3, kills: 200, pace: pace)
        #expect(report.rows.reduce(0) { $0 + $1.kills.count } == 200)
    }

    @Test("kill only what they may, in the ways they may")
    func weights() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("a") { Waiter($0) }
                Child("b") { _ in Keeper() }
            }
        }
        let report = try await chaos.storm(
            seed: 1,
            kills: 100,
            weights: [.kill: 9, .crash: 1],
            only: { $0.path == "app/b" }
        )
        let kills = report.rows.flatMap(\.kills)
        #expect(Set(kills.map(\.path)) == ["app/b"])
        let killed = kills.filter { $0.way == .kill }.count
        #expect((75...99).contains(killed))
    }

    @Test("pairs at once leave the tree whole")
    func pairs() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", intensity: .init(10, within: .seconds(1)), logger: quiet, clock: clock) {
                Child("a") { Waiter($0) }
                Supervisor("group", strategy: .oneForAll) {
                    Child("b") { _ in Keeper() }
                    Child("c") { Waiter($0, asked: false) }
                }
            }
        }
        let report = try await chaos.pairs([.kill, .crash, .hang])
        #expect(report.rows.count == 6 * 9)
    }
}

@Suite("Shrinking")
struct ShrinkingTests {
    @Test("finds a smallest part that fails", arguments: [[3], [0, 29], [7, 8], [1, 15, 28], Array(0..<30)])
    func smallest(guilty: [Int]) async {
        let part = await DeltaDebugging.minimize(Array(0..<30), budget: 10_000) { Set(guilty).isSubset(of: $0) }
        #expect(part == guilty)
    }

    @Test("stops when its budget is used up")
    func budget() async {
        let tries = Shared(0)
        let part = await DeltaDebugging.minimize(Array(0..<1000), budget: 10) { part in
            tries.with { $0 += 1 }
            return part.contains(3) && part.contains(900)
        }
        #expect(tries.with { $0 } == 10)
        #expect(part.contains(3) && part.contains(900))
    }
}

@Suite("Scenarios")
struct ScenarioTests {
    @Test(
        "are read as they are written",
        arguments: [
            "kill app/db", "crash a/b & hang a/c; +1.5s normal-end a/d",
            "failing-restart(3) x; failing-restart(always) y",
            "graceful-stop app/a name with spaces",
        ]
    )
    func roundTrip(text: String) throws {
        #expect(try #require(Chaos.Scenario(text)).description == text)
    }

    @Test("refuse other text", arguments: ["explode app/db", "kill", "+xs kill a", "+-1s kill a", "kill a & ; "])
    func refuses(text: String) {
        #expect(Chaos.Scenario(text) == nil)
    }

    @Test("without kills are not played")
    func empty() async {
        let chaos = Chaos { Supervisor("app", logger: quiet) { Child("a") { _ in Keeper() } } }
        await #expect(throws: Chaos.Invariant.Violation.self) { try await chaos.replay("nonsense") }
    }
}

@Suite("What storms have found", .timeLimit(.minutes(2)))
struct FoundByStormsTests {
    @Test("a kill that comes while a worker terminates leaves no zombie behind")
    func killDuringTerminate() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Supervisor("group", strategy: .oneForAll) {
                    Child("a") { Waiter($0) }
                    Child("b") { Waiter($0, asked: false) }
                }
            }
        }
        for _ in 0..<300 { try await chaos.replay("crash app/group & kill app/group") }
    }

    @Test("a worker that is killed while it starts never runs")
    func killedWhileStarting() async throws {
        actor Counting: Worker {
            let runs: Shared<Int>
            let stop: StopRequest
            init(_ context: ChildContext, _ runs: Shared<Int>) { (self.runs, stop) = (runs, context.stopRequest) }
            func run() async {
                runs.with { $0 += 1 }
                await stop.wait()
            }
        }
        let runs = Shared(0)
        let starts = Shared(0)
        let supervisor = Supervisor("app", logger: quiet) {
            Child("a") { context in
                let isSecond = starts.with { starts in
                    starts += 1
                    return starts == 2
                }
                if isSecond { context.pid.kill() }
                return Counting(context, runs)
            }
        }
        try await supervisor.start()
        let running = supervisor.testing
        let tree = LiveTree(supervisor)
        _ = await (try tree.end("app/a")).exited()
        try await tree.settled()
        await supervisor.stop()
        while running.runningTasks > 0 { await Task.yield() }
        #expect(starts.with { $0 } == 3)
        #expect(runs.with { $0 } == 2)
    }
}
