import Supervision
import SupervisionTesting
import Synchronization
import Testing

/// Something outside of a tree.
private actor Weather {
    private(set) var isRaining = false
    private(set) var rains = 0

    func begin() {
        isRaining = true
        rains += 1
    }
    func end() { isRaining = false }
}

@Suite("Faults around a tree", .timeLimit(.minutes(2)))
struct FaultTests {
    private struct Broken: Error {}

    private func chaos(
        _ invariants: [Chaos.Invariant] = [],
        _ faults: [Chaos.Fault],
        expecting: @escaping @Sendable (Chaos.Scenario.Kill) -> Chaos.Expectation? = { _ in nil }
    ) -> Chaos {
        Chaos(invariants: invariants, faults: faults, expecting: expecting) { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Child("a") { Waiter($0) }
                Child("b") { _ in Keeper() }
            }
        }
    }

    @Test("last until they return; what is ended in the same step ends meanwhile, and what holds is checked afterwards")
    func meanwhile() async throws {
        let weather = Weather()
        let killed = Shared<Pid?>(nil)
        let invariants = [
            Chaos.Invariant("it rained while b was killed, and does not rain any more") { tree in
                let pid = try tree.process("app/b").pid
                killed.with { $0 = pid }
            } check: { scene, _ in
                try Chaos.require(scene.effects.restarted == ["app/b"], "\(scene.effects)")
                try Chaos.require(await weather.rains == 1, "it did not rain")
                try Chaos.require(await !weather.isRaining, "it rains")
            }
        ]
        let rain = Chaos.Fault("rain") { _ in
            await weather.begin()
            _ = await killed.with { $0 }?.exited()
            await weather.end()
        }
        let report = try await chaos(invariants, [rain]).replay("outside rain & kill app/b")
        #expect(report.rows.map(\.checked) == [1])
        #expect("\(report)".contains("outside rain & kill app/b"))
    }

    @Test("may end processes themselves: what becomes of the tree is judged as after a kill")
    func effects() async throws {
        let fault = Chaos.Fault("lightning") { try $0.end("app/a") }
        try await chaos([], [fault]).eachFault()
        try await chaos([], [fault], expecting: { $0.path == "lightning" ? .group(["app/a"]) : nil }).eachFault()
        // What may come of a fault is waited for.
        let impatient = Chaos(faults: [fault], timeout: .seconds(5)) {
            Supervisor("app", logger: quiet) { Child("a") { Waiter($0) } }
        }
        let found = try await failure { try await impatient.eachFault(expecting: .nothing) }
        #expect("\(try #require(found))".contains("restarted: everything below the root; expected: nothing"))
    }

    @Test("may do what they do later: the report tells what has come of it when the invariants have been checked")
    func late() async throws {
        let first = Shared<Pid?>(nil)
        let lightning = Chaos.Fault("lightning") { tree in
            Task {
                try await Task.sleep(for: .milliseconds(50))
                try tree.end("app/a")
            }
        }
        let chaos = Chaos(
            invariants: [
                Chaos.Invariant("the lightning strikes") { tree in
                    let pid = try tree.process("app/a").pid
                    first.with { $0 = pid }
                } check: { _, _ in
                    _ = await first.with { $0 }?.exited()
                }
            ],
            faults: [lightning]
        ) {
            Supervisor("app", logger: quiet) { Child("a") { Waiter($0) } }
        }
        let report = try await chaos.eachFault()
        #expect(report.rows.map(\.effects.restarted) == [["app/a"]])
    }

    @Test("that fail, and those that do not end, are findings")
    func failing() async throws {
        let broken = try await failure {
            try await self.chaos([], [Chaos.Fault("broken") { _ in throw Broken() }]).eachFault()
        }
        #expect("\(try #require(broken))".contains("the fault broken failed: Broken()"))
        let chaos = Chaos(
            faults: [Chaos.Fault("endless") { _ in try await Task.sleep(for: .seconds(3600)) }],
            timeout: .milliseconds(50)
        ) {
            Supervisor("app", logger: quiet) { Child("a") { _ in Keeper() } }
        }
        let endless = try await failure { try await chaos.replay("outside endless") }
        #expect("\(try #require(endless))".contains("the fault endless failed: it is not over after 0.05 seconds"))
    }

    @Test("that there are not do nothing, like kills of processes that there are not")
    func unknown() async throws {
        let report = try await chaos([], []).replay("outside snow")
        #expect(report.rows.map(\.outcome) == ["there is no such process"])
    }

    @Test("come in storms as often as is asked for, the same for the same seed")
    func storms() async throws {
        let faults = [
            Chaos.Fault("often", weight: 3) { _ in }, Chaos.Fault("seldom") { _ in },
            Chaos.Fault("never", weight: 0) { _ in },
        ]
        let chaos = self.chaos([], faults)
        let report = try await chaos.storm(seed: 5, kills: 400, faults: 0.5)
        let names = report.rows.flatMap(\.kills).filter { $0.way == .outside }.map(\.path)
        #expect((150...250).contains(names.count))
        let often = names.filter { $0 == "often" }.count
        #expect(Set(names) == ["often", "seldom"])
        #expect((names.count / 2..<names.count).contains(often))
        let again = try await chaos.storm(seed: 5, kills: 400, faults: 0.5)
        #expect(again.rows.flatMap(\.kills) == report.rows.flatMap(\.kills))
        let none = try await chaos.storm(seed: 5, kills: 50, faults: 0)
        #expect(none.rows.flatMap(\.kills).allSatisfy { $0.way != .outside })
    }

    @Test("are in the smallest scenario where they matter")
    func shrinks() async throws {
        let weather = Weather()
        let invariants = [
            Chaos.Invariant("a is not killed after rain") { scene in
                for kill in scene.kills where kill.path == "app/a" {
                    try Chaos.require(await !weather.isRaining, "a was killed in the rain")
                }
            }
        ]
        let chaos = Chaos(
            invariants: invariants,
            faults: [Chaos.Fault("rain") { _ in await weather.begin() }, Chaos.Fault("wind") { _ in }]
        ) { clock in
            await weather.end()
            return Supervisor("app", logger: quiet, clock: clock) {
                Child("a") { Waiter($0) }
                Child("b") { _ in Keeper() }
            }
        }
        let found = try #require(try await failure { try await chaos.storm(seed: 3, kills: 80, weights: [.kill: 1]) })
        let scenario = try #require(found.report.failures.first?.scenario)
        #expect(scenario.steps.map { $0.map { "\($0.way) \($0.path)" } } == [["outside rain"], ["kill app/a"]])
        #expect(Chaos.Scenario(scenario.description) == scenario)
    }

    @Test("are paired with every process, and a sample of all pairs is the same for the same seed")
    func pairs() async throws {
        let chaos = self.chaos([], [Chaos.Fault("rain") { _ in }])
        let all = try await chaos.pairs([.kill, .crash])
        let texts = all.rows.map { $0.kills.map(\.description).joined(separator: " & ") }
        #expect(texts.count == 4 + 2 * 2)
        #expect(texts.contains("kill app/a & crash app/b") && texts.contains("crash app/b & outside rain"))
        let sample = try await chaos.pairs([.kill, .crash], sample: 3, seed: 9)
        #expect(sample.rows.count == 3)
        #expect(sample.seed == 9)
        let again = try await chaos.pairs([.kill, .crash], sample: 3, seed: 9)
        #expect(again.rows.map(\.kills) == sample.rows.map(\.kills))
    }
}

@Suite("Invariants", .timeLimit(.minutes(5)))
struct InvariantTests {
    @Test("of what lives are not checked when the root has ended; others are, if they say so")
    func afterTheEnd() async throws {
        let checked = Shared<[String]>([])
        var always = Chaos.Invariant("always") { scene in
            let ended = scene.effects.treeEnded
            checked.with { $0.append("always \(ended)") }
        }
        always.holdsAfterTheEnd = true
        let chaos = Chaos(invariants: [always, Chaos.Invariant("living") { _ in checked.with { $0.append("living") } }])
        {
            clock in
            Supervisor("app", logger: quiet, clock: clock) { Child("a") { Waiter($0) } }
        }
        try await chaos.matrix([.kill])
        #expect(checked.with { $0 } == ["always true", "always false", "living"])
    }
}

@Suite("The course of a storm", .timeLimit(.minutes(2)))
struct CourseTests {
    @Test("is told step by step")
    func steps() async throws {
        let told = Shared<[String]>([])
        var chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) { Child("a") { Waiter($0) } }
        }
        chaos.onStep = { row in told.with { $0.append("\(row.kills[0])") } }
        let report = try await chaos.storm(seed: 1, kills: 10)
        #expect(told.with { $0 } == report.rows.map { "\($0.kills[0])" })
    }

    @Test("ends when its time is over, after the first step at the earliest")
    func lasting() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) { Child("a") { Waiter($0) } }
        }
        let report = try await chaos.storm(seed: 1, kills: 1000, lasting: .zero)
        #expect(report.rows.count == 1)
    }

    @Test("may let supervisors give up, as long as the tree survives")
    func survives() async throws {
        let chaos = Chaos { clock in
            Supervisor("app", logger: quiet, clock: clock) {
                Supervisor("group", intensity: .init(0, within: .seconds(1))) { Child("a") { Waiter($0) } }
            }
        }
        let storm = { (expectation: Chaos.Expectation) in
            try await chaos.storm(
                seed: 1,
                kills: 10,
                weights: [.kill: 1],
                only: { $0.path == "app/group/a" },
                expecting: expectation
            )
        }
        _ = try await storm(.survives)
        let found = try await failure { _ = try await storm(.isWhole) }
        #expect("\(try #require(found))".contains("app/group gave up"))
    }
}
