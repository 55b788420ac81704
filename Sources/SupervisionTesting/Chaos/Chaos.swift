import Supervision

/// Kills the processes of a tree, each in each way, and looks at what becomes of it.
///
///     let chaos = Chaos(invariants: [
///         Invariant("the counter answers") { scene in
///             let counter = try scene.tree.supervisor.child("counter", as: Counter.self)
///             _ = try await counter.call { $0.value }
///         }
///     ]) { clock in
///         makeTree(clock: clock)
///     }
///     print(try await chaos.matrix().markdown)
///
/// What restarts is compared with what the specification of the tree says (see ``Expectation``), the invariants are checked, and
/// nothing may be left over. A fault is thrown as a ``ChaosFailure``, which names the smallest ``Scenario`` that shows it;
/// ``replay(_:expecting:)`` plays that again.
///
/// It works on fresh trees, one at a time, which the closure makes. One that takes a ``ManualClock`` needs no time: restart windows,
/// backoffs, cooldowns and the patience with processes that hang are on that clock, and the kit turns it when nothing else would
/// help. A tree that counts on a dead man's switch (`reportWithin`) is better tested in real time.
///
/// It uses no test framework: call it in a test of any, and an error that is thrown is a test that fails.
public struct Chaos: Sendable {
    let makeTree: @Sendable (ManualClock?) async throws -> Supervisor
    let takesClock: Bool
    let invariants: [Invariant]
    let expecting: @Sendable (Scenario.Kill) -> Expectation?
    let ready: @Sendable (LiveTree) async throws -> Void
    let timeout: Duration
    let patience: Duration
    let leaks: LeakCheck

    /// Chaos in real time.
    ///
    /// - Parameters:
    ///   - invariants: What holds whenever the tree has settled.
    ///   - timeout: After which a tree that does not settle counts as one that never will.
    ///   - patience: How long code may work on its end before a limit that stands on a manual clock passes.
    ///   - leaks: What is counted besides processes, zombies and tasks.
    ///   - expecting: What should restart when one process is ended; `nil` for what the specification of the tree says.
    ///   - ready: Waits until a tree that has just been started can be used, and brings up what it needs.
    ///   - tree: Makes a tree; one that has not been started is started.
    public init(
        invariants: [Invariant] = [],
        timeout: Duration = .seconds(30),
        patience: Duration = .seconds(1),
        leaks: LeakCheck = .ofTheTree,
        expecting: @escaping @Sendable (Scenario.Kill) -> Expectation? = { _ in nil },
        ready: @escaping @Sendable (LiveTree) async throws -> Void = { _ in },
        tree: @escaping @Sendable () async throws -> Supervisor
    ) {
        makeTree = { _ in try await tree() }
        takesClock = false
        self.invariants = invariants
        self.expecting = expecting
        self.ready = ready
        self.timeout = timeout
        self.patience = patience
        self.leaks = leaks
    }

    /// Chaos with a clock that the kit turns, a new one for each tree. The other parameters are those of the initializer for
    /// real time.
    ///
    /// - Parameter tree: Makes a tree whose root takes this clock.
    public init(
        invariants: [Invariant] = [],
        timeout: Duration = .seconds(30),
        patience: Duration = .seconds(1),
        leaks: LeakCheck = .ofTheTree,
        expecting: @escaping @Sendable (Scenario.Kill) -> Expectation? = { _ in nil },
        ready: @escaping @Sendable (LiveTree) async throws -> Void = { _ in },
        tree: @escaping @Sendable (ManualClock) async throws -> Supervisor
    ) {
        makeTree = { try await tree($0 ?? ManualClock()) }
        takesClock = true
        self.invariants = invariants
        self.expecting = expecting
        self.ready = ready
        self.timeout = timeout
        self.patience = patience
        self.leaks = leaks
    }
}

// MARK: - What is played

extension Chaos {
    /// The kill matrix: every process, ended in every way, each time in a fresh tree.
    ///
    /// - Parameters:
    ///   - ways: The ways.
    ///   - only: Which processes; all, the root included, by default.
    /// - Returns: What happened, when all was well.
    /// - Throws: ``ChaosFailure`` with the same report, after all has been played; `CancellationError`.
    @discardableResult
    public func matrix(
        _ ways: [Way] = Way.all,
        only: @Sendable (LiveTree.Process) -> Bool = { _ in true }
    ) async throws -> ChaosReport {
        try await rounds("matrix") { look in
            look.processes.filter(only).flatMap { process in
                ways.filter { look.canEnd(process, by: $0) }.map { Scenario([[.init(process.path, $0)]]) }
            }
        }
    }

    /// Every two processes at once, each time in a fresh tree. The root is left out.
    ///
    /// - Parameters:
    ///   - ways: The ways; each of the two is ended in each.
    ///   - only: Which processes.
    ///   - expecting: What should become of the tree.
    /// - Throws: ``ChaosFailure`` after all has been played; `CancellationError`.
    @discardableResult
    public func pairs(
        _ ways: [Way] = [.kill],
        only: @Sendable (LiveTree.Process) -> Bool = { _ in true },
        expecting: Expectation = .isWhole
    ) async throws -> ChaosReport {
        try await rounds("pairs", expecting: expecting) { look in
            let processes = look.processes.dropFirst().filter(only)
            return processes.indices.flatMap { first in
                processes[(first + 1)...].flatMap { second in
                    ways.flatMap { way in
                        ways.filter { look.canEnd(processes[first], by: way) && look.canEnd(second, by: $0) }
                            .map { Scenario([[.init(processes[first].path, way), .init(second.path, $0)]]) }
                    }
                }
            }
        }
    }

    /// Random kills in one tree, the same for the same seed and the same tree. The root is left out.
    ///
    /// It ends at the first fault, and then looks for the smallest part of what it did that shows this fault too.
    ///
    /// - Parameters:
    ///   - seed: Of the choices.
    ///   - kills: How many.
    ///   - pace: How they follow each other.
    ///   - weights: How likely each way is; survivable ways with the same likelihood by default.
    ///   - only: What may be killed.
    ///   - expecting: What should become of the tree at each step.
    /// - Throws: ``ChaosFailure``; `CancellationError`.
    @discardableResult
    public func storm(
        seed: UInt64 = .random(in: 0 ... .max),
        kills: Int = 100,
        pace: Pace = .rested,
        weights: [Way: Double] = Dictionary(uniqueKeysWithValues: Way.survivable.map { ($0, 1) }),
        only: @Sendable (LiveTree.Process) -> Bool = { _ in true },
        expecting: Expectation = .isWhole
    ) async throws -> ChaosReport {
        var plan = StormPlan(seed: seed)
        var report = try await rounds("storm", expecting: expecting) { look in
            plan.add(kills, look.processes.dropFirst().filter(only), weights, pace, rest: look.rest, look.canEnd)
            return plan.steps.isEmpty ? [] : [Scenario(plan.steps)]
        } failed: { report in
            report.seed = seed
        }
        report.seed = seed
        return report
    }

    /// Plays a scenario in a fresh tree, for example the one that a ``ChaosFailure`` names.
    ///
    /// - Parameter expecting: What should become of the tree at each step; by default what its specification says where one
    ///   process is ended alone in a fresh tree, and ``Expectation/isWhole`` elsewhere.
    /// - Throws: ``ChaosFailure``; `CancellationError`.
    @discardableResult
    public func replay(_ scenario: Scenario, expecting: Expectation? = nil) async throws -> ChaosReport {
        guard scenario.count > 0 else {
            throw Invariant.Violation("a scenario without kills, or one that cannot be read")
        }
        return try await rounds("replay", expecting: expecting) { _ in [scenario] }
    }

    /// How the kills of a storm follow each other.
    public enum Pace: Sendable, Hashable {
        /// One after another, with so much time in between that no restart counts any more. Takes no time on a manual clock.
        case rested
        /// One after another, as soon as the tree has settled.
        case settled
        /// One after another, as soon as the tree has settled and this time has passed.
        case pausing(Duration)
        /// At this interval, whether the tree has settled or not; the invariants are checked at the end.
        case every(Duration)
        /// So many at once, as soon as the tree has settled.
        case atOnce(Int)
    }
}
