import ConcurrencyPrimitives
import Supervision

/// Kills the processes of a tree, each in each way, and looks at what becomes of it.
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
/// What restarts is compared with what the specification of the tree says (see ``Chaos/Expectation``), the invariants are checked, and
/// nothing may be left over. A fault is thrown as a ``Chaos/Failure``, which names the smallest ``Chaos/Scenario`` that shows it;
/// ``replay(_:expecting:)`` plays that again.
///
/// It works on fresh trees, one at a time, which the closure makes. One that takes a ``ManualClock`` needs no time: restart windows,
/// backoffs, cooldowns and the time that processes that hang are given are on that clock, and the kit turns it when nothing else would
/// help. A tree that counts on heartbeats (`heartbeatTimeout`) is better tested in real time.
///
/// It uses no test framework: call it in a test of any, and an error that is thrown is a test that fails.
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

    /// Told of each step when it is over and judged, for those who want to see how it goes. The steps that are played again to
    /// find the smallest scenario are not told.
    public var onStep: @Sendable (Chaos.Report.Row) -> Void = { _ in }
    /// How long to look for the smallest scenario of a fault; then the smallest so far counts. Default five minutes, which
    /// only trees in real time need.
    public var shrinkingTime = Duration.seconds(300)

    /// Chaos in real time.
    ///
    /// - Parameters:
    ///   - invariants: What holds whenever the tree has settled.
    ///   - faults: What can happen around the tree, for ``Chaos/eachFault()``, ``Chaos/pairs(_:only:sample:seed:expecting:)`` and storms.
    ///   - timeout: After which a tree that does not settle counts as one that never will.
    ///   - stallTimeout: How long code may work on its end before a limit that stands on a manual clock passes.
    ///   - leaks: What is counted besides processes, zombies and tasks.
    ///   - expecting: What should restart when one process is ended; `nil` for what the specification of the tree says.
    ///   - ready: Waits until a tree that has just been started can be used, and brings up what it needs.
    ///   - tree: Makes a tree; one that has not been started is started.
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

    /// Chaos with a clock that the kit turns, a new one for each tree: `tree` makes a tree whose root takes this clock. The other
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

// MARK: - What is played

extension Chaos {
    /// The kill matrix: every process, ended in every way, each time in a fresh tree.
    ///
    /// - Parameters:
    ///   - ways: The ways.
    ///   - only: Which processes; all, the root included, by default.
    /// - Returns: What happened, when all was well.
    /// - Throws: ``Chaos/Failure`` with the same report, after all has been played; `CancellationError`.
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

    /// Every ``Chaos/Fault`` around the tree, each time with a fresh tree.
    ///
    /// - Parameter expecting: What should become of the tree where the chaos itself has no expectation of the fault.
    /// - Returns: What happened, when all was well.
    /// - Throws: ``Chaos/Failure`` with the same report, after all has been played; `CancellationError`.
    @discardableResult
    public func eachFault(expecting: Expectation = .isWhole) async throws -> Chaos.Report {
        try await rounds("faults") { _ in
            faults.map { Scenario([[.fault($0.name)]]) }
        } expected: {
            self.expecting($0) ?? expecting
        }
    }

    /// Every two processes at once, and every process together with every ``Chaos/Fault``, each time in a fresh tree. The root is
    /// left out.
    ///
    /// - Parameters:
    ///   - ways: The ways; each process is ended in each.
    ///   - only: Which processes.
    ///   - sample: How many of the pairs, chosen by the seed, when there are more; `nil` for all.
    ///   - seed: Of that choice.
    ///   - expecting: What should become of the tree.
    /// - Throws: ``Chaos/Failure`` after all has been played; `CancellationError`.
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

    /// Random kills in one tree, and random faults around it, the same for the same seed and the same tree. The root is left out.
    ///
    /// It ends at the first fault, and then looks for the smallest part of what it did that shows this fault too.
    ///
    /// - Parameters:
    ///   - seed: Of the choices.
    ///   - kills: How many, faults included; at most a million.
    ///   - lasting: After this time no further step begins; `nil` for all, whatever time they take.
    ///   - pace: How they follow each other.
    ///   - weights: How likely each way is; survivable ways with the same likelihood by default.
    ///   - share: How likely each is a ``Chaos/Fault`` instead, where there are any: from 0 to 1.
    ///   - only: What may be killed.
    ///   - expecting: What should become of the tree at each step.
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

    /// Plays a scenario in a fresh tree, for example the one that a ``Chaos/Failure`` names.
    ///
    /// - Parameters:
    ///   - scenario: What is played.
    ///   - expecting: What should become of the tree at each step; by default what its specification says where one process is ended
    ///     alone in a fresh tree, and ``Chaos/Expectation/isWhole`` elsewhere.
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
        /// One after another, with so much time in between that no restart counts any more. That takes no time on a manual
        /// clock, and all of that time on the real one: a tree in real time is better given the intensities that a storm needs,
        /// and another pace.
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
