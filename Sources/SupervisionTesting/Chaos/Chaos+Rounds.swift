import ConcurrencyPrimitives
import Supervision

/// The state of a tree before a scenario.
struct Look: Sendable {
    let processes: [LiveTree.Process]
    /// The time after which the tree's history no longer matters.
    let rest: Duration
    private let places: [ProcessDescription]

    init(_ stage: Stage) {
        processes = LiveTree(stage.supervisor).processes
        places = stage.tree.descriptions()
        let longest = places.map { max($0.intensity.period, $0.backoff?.resetAfter ?? .zero) }.max() ?? .zero
        rest = longest + .milliseconds(1)
    }

    /// Whether this process can be ended in this way: nothing restarts a root, and a child may have specified to end the OS process when it
    /// hangs.
    func canEnd(_ process: LiveTree.Process, by way: Chaos.Way) -> Bool {
        switch way {
        case .crash, .kill, .normalEnd, .gracefulStop: return true
        case .failingRestart: return process.path != processes.first?.path
        case .outside: return false
        case .hang:
            return !places.contains {
                ($0.path == process.path || $0.path.hasPrefix(process.path + "/")) && $0.onUnstoppable == .crashProcess
            }
        }
    }
}

extension Chaos {
    /// Runs scenarios, each in a fresh tree, and throws when one of them has a finding.
    func rounds(
        _ title: String,
        seed: UInt64? = nil,
        lasting: Duration? = nil,
        expecting: Expectation? = nil,
        _ scenarios: (Look) -> [Scenario],
        expected: (Scenario.Kill) -> Expectation? = { _ in nil }
    ) async throws -> Chaos.Report {
        let start = ContinuousClock.now
        let look = try await look()
        var report = Chaos.Report(title: title, processes: look.processes.map(\.path))
        report.seed = seed
        let before = Resources.now()
        let limit = lasting.map { ContinuousClock.now + $0.clamped }
        for scenario in scenarios(look) {
            try Task.checkCancellation()
            let expecting = expecting ?? scenario.steps.first?.first.flatMap(expected)
            let rows = await play(scenario, expecting, until: limit, onStep)
            report.rows += rows
            guard let findings = rows.last?.findings, !findings.isEmpty else { continue }
            let done = Scenario(Array(scenario.steps.prefix(rows.count)))
            report.failures.append(try await smallest(done, findings, expecting))
        }
        report.leaks = await leaks(since: before)
        report.duration = start.duration(to: .now)
        guard report.failures.isEmpty, report.leaks.isEmpty else { throw Chaos.Failure(report: report) }
        return report
    }

    /// Starts a tree and stops it again, so that resources which are opened only once are open afterwards.
    private func look() async throws -> Look {
        let stage = try await Stage(self)
        let look = Look(stage)
        _ = await stage.close()
        return look
    }

    /// Runs a scenario in a fresh tree, up to the first step with a finding.
    private func play(
        _ scenario: Scenario,
        _ expecting: Expectation?,
        until limit: ContinuousClock.Instant? = nil,
        _ onStep: (Chaos.Report.Row) -> Void = { _ in }
    ) async -> [Chaos.Report.Row] {
        var rows: [Chaos.Report.Row] = []
        do {
            let stage = try await Stage(self)
            for kills in scenario.steps {
                if Task.isCancelled { break }
                if let limit, !rows.isEmpty, ContinuousClock.now >= limit { break }
                // The prediction assumes unused intensities.
                let isFresh = scenario.steps.count == 1 && kills.count == 1
                let user = isFresh && expecting == nil ? kills.first.flatMap(self.expecting) : nil
                let result = await stage.perform(kills, expecting: expecting ?? user ?? (isFresh ? nil : .isWhole))
                let row = Chaos.Report.Row(kills, result)
                rows.append(row)
                onStep(row)
                if !result.findings.isEmpty || result.effects.treeEnded { break }
            }
            let remains = await stage.close()
            if rows.isEmpty { rows.append(Chaos.Report.Row([], Stage.Result())) }
            rows[rows.count - 1].findings += remains
            if !remains.isEmpty { onStep(rows[rows.count - 1]) }
        } catch {
            var row = Chaos.Report.Row(scenario.steps.first ?? [], Stage.Result())
            row.findings = [.notStarted(error)]
            rows.append(row)
            onStep(row)
        }
        return rows
    }

    private func smallest(
        _ scenario: Scenario,
        _ findings: [Finding],
        _ expecting: Expectation?
    ) async throws -> Chaos.Report.Failure {
        guard scenario.count > 1, let kind = findings.first?.kind else {
            return Chaos.Report.Failure(scenario: scenario, findings: findings, original: scenario.count)
        }
        let all = scenario.steps.enumerated().flatMap { step, kills in kills.map { (step: step, kill: $0) } }
        let expected = expecting ?? .isWhole
        var latest = findings
        let limit = ContinuousClock.now + shrinkingTime.clamped
        let fails = { (part: [(step: Int, kill: Scenario.Kill)]) async throws -> Bool in
            try Task.checkCancellation()
            guard ContinuousClock.now < limit else { return false }
            let found = await play(Chaos.scenario(part), expected).last?.findings ?? []
            guard found.contains(where: { $0.kind == kind }) else { return false }
            latest = found
            return true
        }
        guard try await fails(all) else {
            return Chaos.Report.Failure(
                scenario: scenario,
                findings: findings,
                original: scenario.count,
                isReproducible: false
            )
        }
        let part = try await DeltaDebugging.minimize(all, budget: 500, fails: fails)
        return Chaos.Report.Failure(scenario: Chaos.scenario(part), findings: latest, original: scenario.count)
    }

    private static func scenario(_ kills: [(step: Int, kill: Scenario.Kill)]) -> Scenario {
        var steps: [[Scenario.Kill]] = []
        var last: Int?
        for (step, kill) in kills {
            if step == last { steps[steps.count - 1].append(kill) } else { steps.append([kill]) }
            last = step
        }
        return Scenario(steps)
    }

    /// Resources released a moment ago may still be closing.
    private func leaks(since before: Resources) async -> [String] {
        guard leaks != .ofTheTree else { return [] }
        let deadline = ContinuousClock.now + stallTimeout
        var found = Resources.now().leaks(since: before, leaks)
        while !found.isEmpty, ContinuousClock.now < deadline {
            try? await Task.sleep(for: .milliseconds(20))
            found = Resources.now().leaks(since: before, leaks)
        }
        return found
    }
}
