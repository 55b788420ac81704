import SupervisionTesting
import Testing

@testable import Supervision

@Suite("supervisor_SUITE: sup_stop")
struct SupStopTests {
    @Test("sup_stop_infinity: workers and supervisors may have all the time they need")
    func infinity() async throws {
        try await Story(
            supervisor(child("a", .polite, shutdown: .infinity), nested("s", child("x", .polite, shutdown: .infinity)))
        )
        .stops(
            "stop root#1/s#1/x#1 shutdown",
            "stop root#1/s#1 shutdown",
            "stop root#1/a#1 shutdown",
            "stop root#1 shutdown"
        )
        .check()
    }

    @Test(
        "sup_stop_timeout: a child that does not end in its time is killed, and left behind; its sibling ends as asked"
    )
    func timeout() async throws {
        let clock = ManualClock()
        let gate = Gate()
        let supervisor = Supervisor("root", logger: .quiet, clock: clock) {
            Child("a") { _ in Idler() }
            Child("busy", options: ChildOptions(shutdown: .timeout(.seconds(1)), killTimeout: .seconds(1))) { _ in
                Busy(gate)
            }
        }
        try await supervisor.start()
        await gate.entered()
        let pid = try #require(supervisor.pid)
        let idler = try #require(supervisor.child("a", as: Idler.self).pid)
        let busy = try #require(supervisor.child("busy", as: Busy.self).pid)
        pid.exit(.shutdown())
        clock.advance(by: .seconds(2))
        guard case .killed = await busy.exited(), case .shutdown = await idler.exited(),
            case .shutdown = await pid.exited()
        else {
            Issue.record("\(String(describing: busy.exitReason)), \(String(describing: idler.exitReason))")
            return
        }
        gate.open()
    }

    @Test("sup_stop_brutal_kill: a child that is to be killed is not asked; its sibling is")
    func brutalKill() async throws {
        try await Story(supervisor(child("a", .polite), child("b", .polite, shutdown: .brutalKill)))
            .stops("stop root#1/b#1 killed", "stop root#1/a#1 shutdown", "stop root#1 shutdown")
            .check()
    }

    @Test(
        "sup_stop_race: children that end in their own way when asked do not keep the supervisor from ending",
        arguments: [Restart.permanent, .transient, .temporary],
        [Scenario.Kind.actor, .worker, .polite, .grumpy]
    )
    func race(restart: Restart, kind: Scenario.Kind) async throws {
        let reason = kind == .grumpy ? "crash" : "shutdown"
        try await Story(supervisor(child("a", kind, restart: restart), child("b", kind, restart: restart)))
            .stops("stop root#1/b#1 \(reason)", "stop root#1/a#1 \(reason)", "stop root#1 shutdown")
            .check()
    }

    @Test("child_unlink: a child that swallows its cancellation cannot hang the call that terminates it")
    func swallowsCancellation() async throws {
        let clock = ManualClock()
        let gate = Gate()
        let supervisor = Supervisor("root", logger: .quiet, clock: clock) {
            Child("busy", options: ChildOptions(shutdown: .timeout(.seconds(5)))) { _ in Busy(gate) }
        }
        try await supervisor.start()
        await gate.entered()
        let busy = try #require(supervisor.child("busy", as: Busy.self).pid)
        let reference = try supervisor.reference()
        let call = Task { try await reference.terminateChild("busy") }
        while busy.isAlive { await Task.yield() }
        clock.advance(by: .seconds(6))
        try await call.value
        #expect(reference.countChildren() == ChildCounts(specifications: 1, active: 0, supervisors: 0, workers: 1))
        await supervisor.stop()
        gate.open()
    }
}
