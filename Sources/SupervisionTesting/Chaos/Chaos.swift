import ConcurrencyPrimitives
import Supervision

/// Ends the processes of a tree, each in each way, and checks the effects.
///
///     let chaos = Chaos(invariants: [
///         Chaos.Invariant("the counter answers") { scene in
///             let counter = try scene.tree.supervisor.child("counter", as: Counter.self)
///             _ = try await counter.call { $0.value }
///         }
///     ]) { clock in
///         makeTree(clock: clock)
///     }
///     print(try await chaos.matrix().markdown)
///
/// Restarts are compared with the specification of the tree (see ``Chaos/Expectation``), the invariants are checked, and nothing may be
/// leaked. A fault is thrown as a ``Chaos/Failure``, which names the smallest ``Chaos/Scenario`` that reproduces it;
/// ``replay(_:expecting:)`` runs that again.
///
/// It runs on fresh trees, one at a time, created by the closure. With a ``ManualClock`` no real time passes: restart windows, backoffs,
/// cooldowns and the timeouts of hanging processes use that clock, and the kit advances it when nothing else makes progress. A tree that
/// depends on heartbeats (`heartbeatTimeout`) is better tested in real time.
///
/// It depends on no test framework: call it in any test, and a thrown error fails the test.
public struct Chaos: Sendable {
    let makeTree: @Sendable (ManualClock?) async throws -> Supervisor
    let takesClock: Bool
    let invariants: [Chaos.Invariant]
    let faults: [Chaos.Fault]
    let expecting: @Sendable (Scenario.Kill) -> Expectation?
    let ready: @Sendable (LiveTree) async throws -> Void
    let timeout: Duration
    let stallTimeout: Duration
    let leaks: Chaos.LeakCheck

    /// Called after each step with its result, for progress output. Steps that are repeated to find the smallest scenario are not reported.
    public var onStep: @Sendable (Chaos.Report.Row) -> Void = { _ in }
    /// The time limit for finding the smallest scenario of a fault; after that the smallest so far is used. Default five minutes, which
    /// only trees in real time need.
    public var shrinkingTime = Duration.seconds(300)

    /// Creates a chaos test in real time.
    ///
    /// - Parameters:
    ///   - invariants: What holds whenever the tree has settled.
    ///   - faults: Faults around the tree, for ``Chaos/eachFault()``, ``Chaos/pairs(_:only:sample:seed:expecting:)`` and storms.
    ///   - timeout: The time after which a tree that has not settled is considered never to settle.
    ///   - stallTimeout: How long code may take to end before the kit advances a manual clock to its limit.
    ///   - leaks: What is counted besides processes, zombies and tasks.
    ///   - expecting: What should restart when one process is ended; `nil` for the prediction from the tree's specification.
    ///   - ready: Waits until a tree that has just been started can be used, and sets up what it needs.
    ///   - tree: Creates a tree, which is started if it has not been.
    public init(
        invariants: [Chaos.Invariant] = [],
        faults: [Chaos.Fault] = [],
        timeout: Duration = .seconds(30),
        stallTimeout: Duration = .seconds(1),
        leaks: Chaos.LeakCheck = .ofTheTree,
        expecting: @escaping @Sendable (Scenario.Kill) -> Expectation? = { _ in nil },
        ready: @escaping @Sendable (LiveTree) async throws -> Void = { _ in },
        tree: @escaping @Sendable () async throws -> Supervisor
    ) {
        makeTree = { _ in try await tree() }
        takesClock = false
        self.invariants = invariants
        self.faults = faults
        self.expecting = expecting
        self.ready = ready
        self.timeout = timeout.clamped
        self.stallTimeout = stallTimeout.clamped
        self.leaks = leaks
    }

    /// Creates a chaos test with a manual clock, a new one for each tree: `tree` creates a tree whose root uses this clock. The other
    /// parameters are those of the initializer for real time.
    public init(
        invariants: [Chaos.Invariant] = [],
        faults: [Chaos.Fault] = [],
        timeout: Duration = .seconds(30),
        stallTimeout: Duration = .seconds(1),
        leaks: Chaos.LeakCheck = .ofTheTree,
        expecting: @escaping @Sendable (Scenario.Kill) -> Expectation? = { _ in nil },
        ready: @escaping @Sendable (LiveTree) async throws -> Void = { _ in },
        tree: @escaping @Sendable (ManualClock) async throws -> Supervisor
    ) {
        makeTree = { try await tree($0 ?? ManualClock()) }
        takesClock = true
        self.invariants = invariants
        self.faults = faults
        self.expecting = expecting
        self.ready = ready
        self.timeout = timeout.clamped
        self.stallTimeout = stallTimeout.clamped
        self.leaks = leaks
    }
}

// MARK: - Runs

extension Chaos {
    /// Runs the kill matrix: ends every process in every way, each time in a fresh tree.
    ///
    /// - Parameters:
    ///   - ways: The ways.
    ///   - only: Which processes; by default all, including the root.
    /// - Returns: The report, if there was no finding.
    /// - Throws: ``Chaos/Failure`` with the same report, after everything has run; `CancellationError`.
    @discardableResult
    public func matrix(
        _ ways: [Way] = Way.all,
        only: @Sendable (LiveTree.Process) -> Bool = { _ in true }
    ) async throws -> Chaos.Report {
        try await rounds("matrix") { look in
            look.processes.filter(only).flatMap { process in
                ways.filter { look.canEnd(process, by: $0) }.map { Scenario([[.init(process.path, $0)]]) }
            }
        }
    }

    /// Injects every ``Chaos/Fault`` around the tree, each time into a fresh tree.
    ///
    /// - Parameter expecting: What should happen to the tree, if the test itself has no expectation of the fault.
    /// - Returns: The report, if there was no finding.
    /// - Throws: ``Chaos/Failure`` with the same report, after everything has run; `CancellationError`.
    @discardableResult
    public func eachFault(expecting: Expectation = .isWhole) async throws -> Chaos.Report {
        try await rounds("faults") { _ in
            faults.map { Scenario([[.fault($0.name)]]) }
        } expected: {
            self.expecting($0) ?? expecting
        }
    }

    /// Ends every two processes at once, and every process together with every ``Chaos/Fault``, each time in a fresh tree, except the root.
    ///
    /// - Parameters:
    ///   - ways: The ways; each process is ended in each of them.
    ///   - only: Which processes.
    ///   - sample: The number of pairs to choose by the seed, if there are more; `nil` for all.
    ///   - seed: The seed of the choice.
    ///   - expecting: What should happen to the tree.
    /// - Throws: ``Chaos/Failure`` after everything has run; `CancellationError`.
    @discardableResult
    public func pairs(
        _ ways: [Way] = [.kill],
        only: @Sendable (LiveTree.Process) -> Bool = { _ in true },
        sample: Int? = nil,
        seed: UInt64 = .random(in: 0 ... .max),
        expecting: Expectation = .isWhole
    ) async throws -> Chaos.Report {
        let seed = sample == nil ? nil : seed
        return try await rounds("pairs", seed: seed, expecting: expecting) { look in
            let endings = look.processes.dropFirst().filter(only).map { process in
                ways.filter { look.canEnd(process, by: $0) }.map { Scenario.Kill(process.path, $0) }
            }
            let faults = faults.map { [Scenario.Kill.fault($0.name)] }
            let pairs = endings.indices.flatMap { first in
                (endings[(first + 1)...] + faults).flatMap { others in
                    endings[first].flatMap { kill in others.map { Scenario([[kill, $0]]) } }
                }
            }
            return StormPlan.sample(pairs, sample ?? pairs.count, seed: seed ?? 0)
        }
    }

    /// Runs random kills in one tree, and random faults around it, reproducible for the same seed and tree, except the root.
    ///
    /// It ends at the first fault, and then searches for the smallest part of its steps that reproduces this fault.
    ///
    /// - Parameters:
    ///   - seed: The seed of the choices.
    ///   - kills: The number of kills, including faults; at most a million.
    ///   - lasting: After this time no further step begins; `nil` to run all, whatever time they take.
    ///   - pace: How the kills follow each other.
    ///   - weights: The relative probability of each way; by default all survivable ways equally.
    ///   - share: The probability of a ``Chaos/Fault`` instead of a kill, if there are any: from 0 to 1.
    ///   - only: Which processes may be killed.
    ///   - expecting: What should happen to the tree at each step.
    /// - Throws: ``Chaos/Failure``; `CancellationError`.
    @discardableResult
    public func storm(
        seed: UInt64 = .random(in: 0 ... .max),
        kills: Int = 100,
        lasting: Duration? = nil,
        pace: Pace = .rested,
        weights: [Way: Double] = Dictionary(uniqueKeysWithValues: Way.survivable.map { ($0, 1) }),
        faults share: Double = 0.2,
        only: @Sendable (LiveTree.Process) -> Bool = { _ in true },
        expecting: Expectation = .isWhole
    ) async throws -> Chaos.Report {
        try await rounds("storm", seed: seed, lasting: lasting, expecting: expecting) { look in
            var plan = StormPlan(
                seed: seed,
                processes: look.processes.dropFirst().filter(only),
                ways: weights,
                faults: faults,
                share: share,
                pace: pace,
                rest: look.rest
            )
            plan.add(kills, look.canEnd)
            return plan.steps.isEmpty ? [] : [Scenario(plan.steps)]
        }
    }

    /// Runs a scenario in a fresh tree, for example that of a ``Chaos/Failure``.
    ///
    /// - Parameters:
    ///   - scenario: The scenario.
    ///   - expecting: What should happen to the tree at each step; by default the prediction from its specification if a single process is
    ///     ended in a fresh tree, and ``Chaos/Expectation/isWhole`` otherwise.
    /// - Throws: ``Chaos/Failure``; `CancellationError`.
    @discardableResult
    public func replay(_ scenario: Scenario, expecting: Expectation? = nil) async throws -> Chaos.Report {
        guard scenario.count > 0 else {
            throw Chaos.Invariant.Violation("a scenario without kills, or one that cannot be read")
        }
        return try await rounds("replay", expecting: expecting) { _ in [scenario] }
    }

    /// How the kills of a storm follow each other.
    public enum Pace: Sendable, Hashable {
        /// One after another, with enough time in between that no restart counts any more. On a manual clock that takes no time; in real
        /// time it takes all of it: use intensities suited to a storm and another pace for such trees.
        case rested
        /// One after another, as soon as the tree has settled.
        case settled
        /// One after another, as soon as the tree has settled and this time has passed.
        case pausing(Duration)
        /// At this interval, whether the tree has settled or not; the invariants are checked at the end.
        case every(Duration)
        /// This many at once, as soon as the tree has settled.
        case atOnce(Int)
    }
}
