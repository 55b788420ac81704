import Logging
import SupervisionTesting
import Synchronization
import Testing

@testable import Supervision

/// What OTP calls simple_one_for_one.
@Suite("supervisor_SUITE: dynamic children")
struct DynamicTests {
    /// Runs `body` with a dynamic supervisor, and stops it.
    private func withSupervisor(
        intensity: Int = 3,
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        _ body: (DynamicSupervisor, DynamicSupervisorReference) async throws -> Void
    ) async throws {
        let supervisor = DynamicSupervisor(
            "root",
            intensity: .init(intensity, within: .seconds(3600)),
            logger: .quiet,
            clock: clock
        )
        try await supervisor.start()
        try await body(supervisor, supervisor.reference)
        await supervisor.stop()
    }

    private func settle(_ supervisor: DynamicSupervisor) async throws {
        try await LiveTree(supervisor.root).settled()
    }

    private func counts(_ specifications: Int, _ active: Int, _ supervisors: Int, _ workers: Int) -> ChildCounts {
        ChildCounts(specifications: specifications, active: active, supervisors: supervisors, workers: workers)
    }

    private func isShutdown(_ reason: ExitReason?) -> Bool {
        if case .shutdown? = reason { true } else { false }
    }

    private func isKilled(_ reason: ExitReason?) -> Bool {
        if case .killed? = reason { true } else { false }
    }

    @Test("sup_start_ignore_temporary_child_start_child_simple: a temporary child that ignores is not kept")
    func ignoreTemporary() async throws {
        try await withSupervisor { _, reference in
            let pid = try await reference.startChild(Child("x", restart: .temporary) { _ -> Idler? in nil })
            #expect(pid == nil)
            #expect(try reference.countChildren() == counts(0, 0, 0, 0))
        }
    }

    @Test(
        "sup_start_ignore_permanent_child_start_child_simple: neither is a permanent one, and the supervisor still stops"
    )
    func ignorePermanent() async throws {
        try await withSupervisor { supervisor, reference in
            let pid = try await reference.startChild(Child("x") { _ -> Idler? in nil })
            #expect(pid == nil)
            #expect(try reference.countChildren() == counts(0, 0, 0, 0))
            let root = try #require(supervisor.root.pid)
            await supervisor.stop()
            #expect(isShutdown(root.exitReason))
        }
    }

    @Test("sup_start_child_returns_error_simple: a failing start is told to the caller, nothing is kept")
    func startFails() async throws {
        try await withSupervisor { _, reference in
            await #expect {
                try await reference.startChild(Child("x") { _ -> Idler? in throw ScenarioError.fail })
            } throws: { error in
                guard case AdministrationError.startFailed(_, .crashed(let cause)) = error else { return false }
                return (cause as? ScenarioError)?.description == "fail"
            }
            let left = try reference.countChildren()
            #expect(left == counts(0, 0, 0, 0))
        }
    }

    @Test("sup_start_map_simple: what is known of a child is found by its pid")
    func byPid() async throws {
        try await withSupervisor { _, reference in
            let pid = try await reference.startChild(Child("x", restart: .transient) { _ in Idler() })
            let info = try #require(try reference.whichChildren().first { $0.pid == pid })
            #expect(info.restart == .transient)
            #expect(!info.isSupervisor)
        }
    }

    @Test("sup_stop_timeout_dynamic: a busy child is killed after its time, the others end as asked, side by side")
    func timeout() async throws {
        let clock = ManualClock()
        let gate = Gate()
        try await withSupervisor(clock: clock) { supervisor, reference in
            let busy = try #require(
                try await reference.startChild(
                    Child("busy", options: ChildOptions(shutdown: .timeout(.seconds(1)))) { _ in Busy(gate) }
                )
            )
            let idler = try #require(try await reference.startChild(Child("idler") { _ in Idler() }))
            await gate.entered()
            supervisor.root.pid?.exit(.shutdown())
            #expect(isShutdown(await idler.exited()))
            clock.advance(by: .seconds(2))
            #expect(isKilled(await busy.exited()))
            gate.open()
        }
    }

    @Test("sup_stop_brutal_kill_dynamic: ten children that are to be killed are not asked")
    func brutalKill() async throws {
        try await withSupervisor { supervisor, reference in
            var pids: [Pid] = []
            for _ in 0..<10 {
                let child = Child("x", options: ChildOptions(shutdown: .brutalKill)) { context in
                    let order = Order()
                    context.stopRequest.onRequest { order.give(.success(())) }
                    return Obedient(order)
                }
                pids.append(try #require(try await reference.startChild(child)))
            }
            await supervisor.stop()
            #expect(pids.allSatisfy { isKilled($0.exitReason) })
        }
    }

    @Test(
        "sup_stop_non_shutdown_exit_dynamic: children that end in their own way when asked do not keep it from ending",
        arguments: [Restart.permanent, .transient, .temporary]
    )
    func ownWay(restart: Restart) async throws {
        try await withSupervisor { supervisor, reference in
            for answer in [Result<Void, any Error>.success(()), .failure(ScenarioError.crash)] {
                let child = Child("x", restart: restart) { context in
                    let order = Order()
                    context.stopRequest.onRequest { order.give(answer) }
                    return Obedient(order)
                }
                try await reference.startChild(child)
            }
            let root = try #require(supervisor.root.pid)
            await supervisor.stop()
            #expect(isShutdown(root.exitReason))
        }
    }

    @Test("child_adm_simple: children are terminated by pid; a pid that is no child's, or not any more, is not found")
    func administration() async throws {
        try await withSupervisor { supervisor, reference in
            let child = Child("x") { _ in Idler() }
            let first = try #require(try await reference.startChild(child))
            let second = try #require(try await reference.startChild(child))
            #expect(try reference.countChildren() == counts(2, 2, 0, 2))
            try await reference.terminateChild(first)
            #expect(isShutdown(first.exitReason))
            #expect(try reference.whichChildren().map(\.pid) == [second])
            // Elixir's rule. OTP answers ok for a pid that is dead.
            await #expect(throws: AdministrationError.self) { try await reference.terminateChild(first) }
            let root = try #require(supervisor.root.pid)
            await #expect(throws: AdministrationError.self) { try await reference.terminateChild(root) }
            await supervisor.stop()
            await #expect(throws: AdministrationError.self) { try await reference.startChild(child) }
        }
    }

    @Test(
        "simple_one_for_one: a child is restarted alone, the third restart with an intensity of two ends the supervisor"
    )
    func restarts() async throws {
        try await withSupervisor(intensity: 2) { supervisor, reference in
            let stable = try #require(try await reference.startChild(Child("a") { _ in Idler() }, as: Idler.self))
            let sibling = try #require(try await reference.startChild(Child("b") { _ in Idler() }))
            let root = try #require(supervisor.root.pid)
            for _ in 0..<2 {
                let pid = try #require(stable.pid)
                pid.kill()
                try await settle(supervisor)
                #expect(stable.pid != pid)
                #expect(sibling.isAlive)
            }
            try #require(stable.pid).kill()
            #expect(isShutdown(await root.exited()))
            #expect(isShutdown(sibling.exitReason))
        }
    }

    @Test("simple_one_for_one_shutdown: stopping takes as long as the slowest child, not as the sum")
    func parallelStop() async throws {
        let clock = ManualClock()
        let gates = (0..<3).map { _ in Gate() }
        try await withSupervisor(clock: clock) { supervisor, reference in
            for (index, gate) in gates.enumerated() {
                let child = Child("\(index)", options: ChildOptions(shutdown: .timeout(.seconds(index + 1)))) { _ in
                    Busy(gate)
                }
                try await reference.startChild(child)
                await gate.entered()
            }
            let root = try #require(supervisor.root.pid)
            root.exit(.shutdown())
            // Three seconds for the slowest, and one to kill it.
            clock.advance(by: .seconds(4))
            #expect(isShutdown(await root.exited()))
            for gate in gates { gate.open() }
        }
    }

    @Test("simple_one_for_one_extra: what a start makes is reached through the child's reference")
    func extra() async throws {
        try await withSupervisor { _, reference in
            let stable = try await reference.startChild(Child("a") { _ in Tally() }, as: Tally.self)
            #expect(try await stable?.call { $0.increment() } == 1)
        }
    }

    @Test("simple_one_for_one_escalation: a child that cannot be restarted ends the supervisor")
    func escalation() async throws {
        let starts = Mutex(0)
        try await withSupervisor(intensity: 2) { supervisor, reference in
            let pid = try await reference.startChild(
                Child("a") { _ -> Idler? in
                    let count = starts.withLock { starts in
                        starts += 1
                        return starts
                    }
                    if count > 1 { throw ScenarioError.fail }
                    return Idler()
                }
            )
            let root = try #require(supervisor.root.pid)
            pid?.kill()
            #expect(isShutdown(await root.exited()))
            #expect(starts.withLock { $0 } == 3)
        }
    }

    @Test("simple_one_for_one_corruption: what a temporary child's start closure holds is released when it has ended")
    func released() async throws {
        final class Argument: Sendable {}
        try await withSupervisor { supervisor, reference in
            weak var held: Argument?
            func startOne() async throws -> Pid? {
                let argument = Argument()
                held = argument
                return try await reference.startChild(
                    Child("x", restart: .temporary) { _ in
                        _ = argument
                        return Idler()
                    }
                )
            }
            let pid = try #require(try await startOne())
            pid.kill()
            _ = await pid.exited()
            try await settle(supervisor)
            #expect(held == nil)
        }
    }

    @Test("simple_one_for_one_restart_ignore: a child that ignores its restart is dropped")
    func restartIgnored() async throws {
        let isFirst = Mutex(true)
        try await withSupervisor { supervisor, reference in
            let pid = try await reference.startChild(
                Child("a") { _ -> Idler? in
                    isFirst.withLock { isFirst in
                        defer { isFirst = false }
                        return isFirst ? Idler() : nil
                    }
                }
            )
            pid?.kill()
            try await settle(supervisor)
            #expect(try reference.countChildren() == counts(0, 0, 0, 0))
        }
    }

    @Test("significant_simple: a dynamic child cannot be significant")
    func significant() async throws {
        try await withSupervisor { _, reference in
            await #expect {
                try await reference.startChild(
                    Child("a", restart: .temporary, options: ChildOptions(significant: true)) { _ in Idler() }
                )
            } throws: { error in
                guard case AdministrationError.invalidSpecification = error else { return false }
                return true
            }
        }
    }

    @Test("count_children: a thousand children are counted, also while they are restarted")
    func countChildren() async throws {
        try await withSupervisor(intensity: 2000) { supervisor, reference in
            for _ in 0..<1000 { try await reference.startChild(Child("x") { _ in Idler() }) }
            #expect(try reference.countChildren() == counts(1000, 1000, 0, 1000))
            for child in try reference.whichChildren() { child.pid?.kill() }
            try await settle(supervisor)
            #expect(try reference.countChildren() == counts(1000, 1000, 0, 1000))
        }
    }

    @Test("count_children_supervisor: children that are supervisors are counted as such")
    func countSupervisors() async throws {
        try await withSupervisor { _, reference in
            let child = Child(supervisor: Supervisor("s") {}.specification)
            for _ in 0..<100 { try await reference.startChild(child) }
            #expect(try reference.countChildren() == counts(100, 100, 100, 0))
        }
    }

    @Test("simple_one_for_one_scale_many_temporary_children: ten thousand temporary children leave nothing behind")
    func scale() async throws {
        try await withSupervisor { supervisor, reference in
            var pids: [Pid] = []
            for _ in 0..<10_000 {
                pids.append(
                    try #require(try await reference.startChild(Child("x", restart: .temporary) { _ in Idler() }))
                )
            }
            for pid in pids { pid.exit(.shutdown()) }
            try await settle(supervisor)
            #expect(try reference.countChildren() == counts(0, 0, 0, 0))
        }
    }

    @Test("hanging_restart_loop_simple: a child that waits for its restart can be terminated")
    func hangingLoop() async throws {
        let clock = ManualClock()
        let backoff = Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0, resetAfter: .seconds(60))
        try await withSupervisor(clock: clock) { supervisor, reference in
            let pid = try #require(
                try await reference.startChild(Child("x", options: ChildOptions(backoff: backoff)) { _ in Idler() })
            )
            pid.kill()
            #expect(try reference.countChildren() == counts(1, 0, 0, 1))
            #expect(try reference.whichChildren().map(\.status) == [.restarting])
            try await reference.terminateChild(pid)
            clock.advance(by: .seconds(10))
            try await settle(supervisor)
            #expect(try reference.countChildren() == counts(0, 0, 0, 0))
        }
    }

    @Test("which_children_simple_one_for_one: each child with its pid, or as restarting without one")
    func whichChildren() async throws {
        let clock = ManualClock()
        let backoff = Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0, resetAfter: .seconds(60))
        try await withSupervisor(clock: clock) { supervisor, reference in
            let first = try #require(try await reference.startChild(Child("a") { _ in Idler() }))
            let second = try #require(
                try await reference.startChild(Child("b", options: ChildOptions(backoff: backoff)) { _ in Idler() })
            )
            let pids = try reference.whichChildren().map(\.pid)
            #expect(Set(pids) == [first, second])
            second.kill()
            let states = try reference.whichChildren()
            #expect(states.first { $0.id.hasPrefix("a") }?.pid == first)
            #expect(states.first { $0.id.hasPrefix("b") }?.pid == nil)
            #expect(states.first { $0.id.hasPrefix("b") }?.status == .restarting)
        }
    }
}

actor Tally {
    private var count = 0

    func increment() -> Int {
        count += 1
        return count
    }
}
