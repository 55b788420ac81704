import ConcurrencyPrimitives
import Supervision

/// A live tree during a run.
struct Stage: Sendable {
    /// The effects of a step.
    struct Result: Sendable {
        var effects = Chaos.Effects()
        var shape = Shape([])
        var targets: [String] = []
        /// Faults around the tree.
        var faults: [String] = []
        /// Kills that found no process, and unknown faults.
        var missed: [String] = []
        var expected = Chaos.Expectation.anything
        var permanent: Set<String> = []
        var settledAfter = Duration.zero
        var turned = Duration.zero
        var checked = 0
        var findings: [Chaos.Finding] = []

        var isAsExpected: Bool {
            expected.isMet(by: effects, targets: targets, in: shape, permanent: permanent)
        }
    }

    let chaos: Chaos
    let clock: ManualClock?
    let supervisor: Supervisor
    let tree: any TreeTesting

    /// Starts a tree.
    init(_ chaos: Chaos) async throws {
        let clock = chaos.takesClock ? ManualClock() : nil
        let supervisor = try await chaos.makeTree(clock)
        if supervisor.pid == nil { try await supervisor.start() }
        guard supervisor.pid != nil else { throw SupervisionError.notRunning(supervisor: supervisor.tree().name) }
        let tree = supervisor.testing
        (self.chaos, self.clock, self.supervisor, self.tree) = (chaos, clock, supervisor, tree)
        tree.rememberAbandoned()
        do {
            try await chaos.ready(LiveTree(supervisor))
        } catch {
            await supervisor.stop()
            throw error
        }
        _ = await tree.settled(includingDelays: true)
    }

    /// Ends these processes, waits until the tree has settled, and determines the effects.
    func perform(_ kills: [Chaos.Scenario.Kill], expecting expected: Chaos.Expectation?) async -> Result {
        var result = Result()
        var checks: [(invariant: Chaos.Invariant, check: Chaos.Invariant.Check)] = []
        for invariant in chaos.invariants {
            do {
                checks.append((invariant, try await invariant.prepare(LiveTree(supervisor))))
            } catch {
                result.findings.append(.invariant(invariant.name, error))
            }
        }
        let before = tree.descriptions()
        result.shape = Shape(before.filter { $0.pid != nil }.map { ($0.path, $0.isSupervisor) })
        result.permanent = Stage.permanent(before)
        let start = ContinuousClock.now
        let turnedBefore = clock?.now ?? .zero
        var hits: [Hit] = []
        var faultsUnderWay: [FaultUnderWay] = []
        for kill in kills {
            if kill.pause > .zero { await pass(kill.pause) }
            if kill.way == .outside {
                guard let fault = chaos.faults.first(where: { $0.name == kill.path }) else {
                    result.missed.append(kill.path)
                    continue
                }
                result.faults.append(kill.path)
                faultsUnderWay.append(FaultUnderWay(fault, LiveTree(supervisor)))
                continue
            }
            guard let place = tree.descriptions().first(where: { $0.path == kill.path }), let pid = place.pid
            else {
                result.missed.append(kill.path)
                continue
            }
            result.targets.append(kill.path)
            if kills.count == 1 {
                result.expected = expected ?? Prediction.expectation(before, ending: place.key, by: kill.way)
            }
            hits.append(end(place, pid, kill.way))
        }
        if kills.count != 1 || !result.faults.isEmpty { result.expected = expected ?? .isWhole }
        for fault in faultsUnderWay {
            if let finding = await fault.finding(within: chaos.timeout) { result.findings.append(finding) }
        }
        let outcome = await settle(hits)
        result.settledAfter = start.duration(to: .now)
        result.turned = (clock?.now ?? .zero) - turnedBefore
        result.effects = effects(before, keepsTrying: outcome.keepsTrying)
        if !result.faults.isEmpty, outcome.findings.isEmpty { await follow(&result, before) }
        result.findings += outcome.findings
        let abandoned = tree.takeAbandoned()
        if !abandoned.isEmpty { result.findings.append(.abandoned(Set(abandoned).sorted())) }
        if !hits.isEmpty || !result.faults.isEmpty,
            !result.isAsExpected
        {
            result.findings.append(
                .unexpected(
                    result.effects.phrase(in: result.shape, targets: result.targets),
                    expected: result.expected.phrase(in: result.shape, targets: result.targets)
                )
            )
        }
        if outcome.findings.isEmpty {
            let scene = Chaos.Invariant.Scene(tree: LiveTree(supervisor), kills: kills, effects: result.effects)
            for (invariant, check) in checks where !result.effects.treeEnded || invariant.holdsAfterTheEnd {
                result.checked += 1
                do {
                    try await check(scene)
                } catch {
                    result.findings.append(.invariant(invariant.name, error))
                }
            }
        }
        // By now the consequences of a fault have arrived.
        if !result.faults.isEmpty, result.findings.isEmpty { await lookAgain(&result, before) }
        tree.releaseHung()
        return result
    }

    /// Stops the tree, and returns what is left of it.
    func close() async -> [Chaos.Finding] {
        tree.releaseHung()
        let stopped = Latch()
        let task = Task {
            await supervisor.stop()
            stopped.open()
        }
        let deadline = ContinuousClock.now + chaos.timeout
        var stall = Stall(tree.progress)
        while !(await stopped.isOpen(within: Stage.interval)) {
            turn(&stall)
            if ContinuousClock.now > deadline {
                task.cancel()
                let tree = supervisor.tree().description
                supervisor.pid?.kill()
                return [.notSettled(tree: tree)]
            }
        }
        var findings: [Chaos.Finding] = []
        let abandoned = tree.takeAbandoned()
        if !abandoned.isEmpty { findings.append(.abandoned(Set(abandoned).sorted())) }
        // A cancelled task needs a moment to end. Abandoned ones have had it.
        let limit = ContinuousClock.now + chaos.stallTimeout
        while tree.runningTasks > tree.stubborn || tree.livingProcesses > 0, ContinuousClock.now < limit {
            try? await Task.sleep(for: .milliseconds(1))
        }
        let zombies = tree.zombies()
        if !zombies.isEmpty {
            findings.append(.leak("zombies: " + zombies.map { "\($0.path) (\($0.type))" }.joined(separator: ", ")))
        } else if tree.runningTasks > 0 {
            findings.append(.leak("\(tree.runningTasks) tasks of the tree"))
        }
        if tree.livingProcesses > 0 { findings.append(.leak("\(tree.livingProcesses) processes of the tree")) }
        return findings
    }
}

// MARK: - Ending

extension Stage {
    /// The interval for checking a tree that has not settled.
    private static let interval = Duration.milliseconds(2)

    /// Since when nothing has begun or ended in the tree.
    ///
    /// Measured by the checks, which are as late as everything else on a busy machine: waiting for a thread is not mistaken for inactivity.
    private struct Stall {
        private var progress: Int
        private var looks = 0

        init(_ progress: Int) { self.progress = progress }

        mutating func duration(at now: Int) -> Duration {
            if now != progress { self = Stall(now) }
            looks += 1
            return Stage.interval * looks
        }
    }

    private struct Hit {
        var path: String
        var pid: Pid
        /// The key whose starts always fail, and the number of failures after which it is certain that retrying never ends.
        var failing: (key: String, maximumFailures: Int)?
    }

    private func end(_ place: ProcessDescription, _ pid: Pid, _ way: Chaos.Way) -> Hit {
        var hit = Hit(path: place.path, pid: pid)
        switch way {
        case .crash: tree.crash(pid, LiveTree.Crash())
        case .kill: pid.kill()
        case .normalEnd: tree.endNormally(pid)
        case .gracefulStop: pid.exit(.shutdown())
        case .hang:
            tree.hang(pid)
            pid.kill()
        case .outside: break
        case .failingRestart(let failures):
            switch failures {
            case .times(let times): tree.failStarts(of: place.key, times: times)
            case .always:
                hit.failing = (place.key, Prediction.maximumFailures(tree.descriptions(), place.key))
                tree.failStarts(of: place.key, times: .max)
            }
            tree.crash(pid, LiveTree.Crash())
        }
        return hit
    }

    private func pass(_ duration: Duration) async {
        if let clock {
            clock.advance(by: duration)
        } else {
            try? await Task.sleep(for: duration.clamped)
        }
    }

    /// Waits until all hit processes have ended and nothing is under way. The clock is advanced when nothing else makes progress.
    private func settle(_ hits: [Hit]) async -> (keepsTrying: Bool, findings: [Chaos.Finding]) {
        let settled = Latch()
        let task = Task {
            for hit in hits { _ = await hit.pid.exited() }
            if await tree.settled(includingDelays: true) { settled.open() }
        }
        defer { task.cancel() }
        var keepsTrying = false
        let start = ContinuousClock.now
        var stall = Stall(tree.progress)
        while !(await settled.isOpen(within: Stage.interval)) {
            for hit in hits {
                guard let (key, maximumFailures) = hit.failing, tree.failedStarts(of: key) >= maximumFailures else {
                    continue
                }
                keepsTrying = true
                tree.stopFailing(key)
            }
            turn(&stall)
            guard start.duration(to: .now) < chaos.timeout else { break }
        }
        for hit in hits {
            guard let (key, _) = hit.failing else { continue }
            if !settled.isOpen { keepsTrying = true }
            tree.stopFailing(key)
        }
        if settled.isOpen { return (keepsTrying, []) }
        if hits.contains(where: { $0.failing != nil }), await isSettled(settled, within: chaos.timeout) {
            return (true, [])
        }
        let deaf = hits.filter(\.pid.isAlive).map(\.path)
        let finding = deaf.isEmpty ? Chaos.Finding.notSettled(tree: supervisor.tree().description) : .ignoredStop(deaf)
        return (keepsTrying, [finding])
    }

    /// Consequences of a fault may arrive later, for example over a network, and be in progress at any check: only lasting ones are wrong.
    private func follow(_ result: inout Result, _ before: [ProcessDescription]) async {
        let deadline = ContinuousClock.now + chaos.timeout
        while !result.isAsExpected, !result.effects.treeEnded, ContinuousClock.now < deadline {
            guard await lookAgain(&result, before) else { return }
            if !result.isAsExpected { await pass(Stage.interval) }
        }
    }

    @discardableResult
    private func lookAgain(_ result: inout Result, _ before: [ProcessDescription]) async -> Bool {
        let settled = Latch()
        let task = Task { if await tree.settled(includingDelays: true) { settled.open() } }
        defer { task.cancel() }
        guard await isSettled(settled, within: chaos.timeout) else { return false }
        result.effects = effects(before, keepsTrying: result.effects.keepsTrying)
        return true
    }

    private func isSettled(_ settled: Latch, within timeout: Duration) async -> Bool {
        let start = ContinuousClock.now
        var stall = Stall(tree.progress)
        while !(await settled.isOpen(within: Stage.interval)) {
            turn(&stall)
            guard start.duration(to: .now) < timeout else { return false }
        }
        return true
    }

    /// Immediately when only time makes progress; otherwise code is running, which gets its time before a limit on the manual clock ends
    /// it.
    private func turn(_ stall: inout Stall) {
        guard let clock else { return }
        let stalledFor = stall.duration(at: tree.progress)
        // Whatever begins to end after this check has a later timer, and is given its time.
        let last = clock.lastTimer
        if tree.waitsForTime || stalledFor > chaos.stallTimeout, clock.advanceToNextTimer(upTo: last) {
            stall = Stall(tree.progress)
        }
    }

    private func effects(_ before: [ProcessDescription], keepsTrying: Bool) -> Chaos.Effects {
        let gaveUp = before.filter { place in
            guard case .shutdown(SupervisionError.intensityExceeded(let name, _, _)?)? = place.pid?.exitReason else {
                return false
            }
            return name == place.path
        }
        guard supervisor.pid == before.first?.pid, supervisor.pid != nil else {
            return Chaos.Effects(gaveUp: Set(gaveUp.map(\.path)), treeEnded: true)
        }
        let after = Dictionary(tree.descriptions().map { ($0.key, $0) }) { first, _ in first }
        var effects = Chaos.Effects(gaveUp: Set(gaveUp.map(\.path)), keepsTrying: keepsTrying)
        for place in before {
            switch (place.pid, after[place.key]?.pid) {
            case (let old?, let new?): if old != new { effects.restarted.insert(place.path) }
            case (.some, nil): effects.removed.insert(place.path)
            case (nil, .some): effects.appeared.insert(place.path)
            case (nil, nil): continue
            }
        }
        let known = Set(before.map(\.key))
        for place in after.values where place.pid != nil && !known.contains(place.key) {
            effects.appeared.insert(place.path)
        }
        return effects
    }

    /// The processes that always exist in a settled tree.
    private static func permanent(_ places: [ProcessDescription]) -> Set<String> {
        var keys: Set<String> = []
        var paths: Set<String> = []
        for place in places {
            let isPermanent =
                switch place.restart {
                case .permanent: place.isDescribed
                case .transient, .temporary: false
                }
            guard place.parent == nil || (isPermanent && place.parent.map(keys.contains) == true) else { continue }
            keys.insert(place.key)
            paths.insert(place.path)
        }
        return paths
    }
}
