import Foundation
import Testing

@testable import Supervision

/// How many scenarios, and from which seed on. `scripts/conformance` sets both.
private enum Settings {
    static func number(_ name: String, _ fallback: UInt64) -> UInt64 {
        ProcessInfo.processInfo.environment[name].flatMap(UInt64.init) ?? fallback
    }

    static let seed = number("CONFORMANCE_SEED", 1)
    static let scenarios = number("CONFORMANCE_SCENARIOS", 400)
}

@Suite("Our supervisor and OTP's", .enabled(if: Oracle.installation != nil, "there is no Erlang on this machine"))
struct DifferentialTests {
    @Test("do the same in random scenarios", .timeLimit(.minutes(60)))
    func random() async throws {
        let oracle = try Oracle()
        var compared = 0
        var steps = 0
        var differences = 0
        for seed in Settings.seed..<(Settings.seed + Settings.scenarios) {
            let scenario = ScenarioGenerator.scenario(seed: seed)
            let (difference, count) = try await compare(scenario, oracle)
            compared += 1
            steps += count
            guard let difference else { continue }
            try await report(scenario, seed, difference, oracle)
            differences += 1
            if differences == 3 { break }
        }
        if Settings.scenarios > 1000 { print("compared \(compared) scenarios with \(steps) steps") }
    }

    @Test("do the same in scenarios that once told them apart", .timeLimit(.minutes(5)), arguments: PinnedScenario.all)
    func pinned(_ pinned: PinnedScenario) async throws {
        let (difference, _) = try await compare(pinned.scenario, try #require(Oracle.shared))
        if let difference { Issue.record("\(pinned.name)\n\(difference)") }
    }

    @Test("a scenario is the same whenever it is made from the same seed", arguments: 1...20 as ClosedRange<UInt64>)
    func reproducible(seed: UInt64) {
        #expect(ScenarioGenerator.scenario(seed: seed).term == ScenarioGenerator.scenario(seed: seed).term)
    }

    @Test("a difference is seen, and shrinks to what causes it")
    func shrinks() async throws {
        let scenario = ScenarioGenerator.scenario(seed: 7)
        let smallest = await ScenarioShrinker.shrink(scenario) { $0.steps.count >= 1 }
        #expect(smallest.steps.count == 1)
        let ours = Trace(steps: [["start root#1"], ["stop root#1 crash"]])
        let theirs = Trace(steps: [["start root#1"], ["stop root#1 killed"]])
        #expect(ours.difference(from: theirs)?.contains("step 1") == true)
        #expect(ours.difference(from: ours) == nil)
    }

    private func compare(_ scenario: Scenario, _ oracle: Oracle) async throws -> (difference: String?, steps: Int) {
        async let theirs = oracle.run(scenario)
        let ours = await Subject.run(scenario)
        let inline = await Subject.run(scenario, startsInline: true)
        let general = await FaultInjection.$decidesDirectly.withValue(false) { await Subject.run(scenario) }
        let expected = DeliberateDifference.reconcile(theirs: try await theirs)
        let difference =
            DeliberateDifference.reconcile(ours: ours).difference(from: expected)
            ?? DeliberateDifference.reconcile(ours: inline).difference(from: expected).map { "started inline: \($0)" }
            ?? DeliberateDifference.reconcile(ours: general).difference(from: expected).map {
                "decided on the general path only: \($0)"
            }
        return (difference, expected.steps.count)
    }

    private func report(_ scenario: Scenario, _ seed: UInt64, _ first: String, _ oracle: Oracle) async throws {
        var difference = first
        let smallest = try await ScenarioShrinker.shrink(scenario) { candidate in
            guard let found = try await compare(candidate, oracle).difference else { return false }
            difference = found
            return true
        }
        Issue.record(
            """
            seed \(seed): our supervisor does not do what OTP's does. The smallest scenario found:
            \(smallest)
            \(difference)
            Again: scripts/conformance --seed \(seed) --scenarios 1
            """
        )
    }
}
