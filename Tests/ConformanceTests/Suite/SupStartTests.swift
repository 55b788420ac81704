import Testing

@testable import Supervision

@Suite("supervisor_SUITE: sup_start")
struct SupStartTests {
    @Test("sup_start_normal: it starts without children, and ends with shutdown")
    func normal() async throws {
        let supervisor = Supervisor("root") {}
        try await supervisor.start()
        let pid = try #require(supervisor.pid)
        await supervisor.stop()
        guard case .shutdown(nil) = await pid.exited() else {
            Issue.record("ended with \(String(describing: pid.exitReason))")
            return
        }
    }

    @Test(
        "sup_start_ignore_init: a builder that decides against all children makes an empty supervisor, no exit is seen"
    )
    func ignoreInit() async throws {
        let wants = false
        let supervisor = Supervisor("root") {
            if wants { Child("a") { _ in Idler() } }
        }
        try await supervisor.start()
        #expect(try supervisor.reference().countChildren().specifications == 0)
        #expect(supervisor.pid?.isAlive == true)
        await supervisor.stop()
    }

    @Test("sup_start_ignore_child: a permanent child that ignores keeps its specification")
    func ignoreChild() async throws {
        try await Story(
            supervisor(child("a"), child("b")),
            plans: [("root/a", [.ignores])],
            boots: "state root#1 b=root#1/b#1 a=undefined counts 2 1 0 2"
        )
        .then(.admin("root", .restartChild("a")), "result root restart_child a: ok root#1/a#2")
        .check()
    }

    @Test("sup_start_ignore_temporary_child: at boot, the specification of a temporary child that ignores is dropped")
    func ignoreTemporary() async throws {
        try await Story(
            supervisor(child("a", restart: .temporary), child("b")),
            plans: [("root/a", [.ignores])],
            boots: "state root#1 b=root#1/b#1 counts 1 1 0 1"
        )
        .check()
    }

    @Test("sup_start_ignore_temporary_child_start_child: the same when it is added at run time")
    func ignoreTemporaryAdded() async throws {
        try await Story(supervisor(child("a")), plans: [("root/x", [.ignores])])
            .then(
                .admin("root", .startChild(child("x", restart: .temporary))),
                "result root start_child x: ok undefined",
                "state root#1 a=root#1/a#1 counts 1 1 0 1"
            )
            .check()
    }

    @Test("sup_start_error_return: a wrong specification is told to the caller, and nothing is started")
    func errorReturn() async throws {
        let supervisor = Supervisor("no/slash") { Child("a") { _ in Idler() } }
        await #expect(throws: SupervisionError.self) { try await supervisor.start() }
        #expect(supervisor.pid == nil)
    }

    @Test("sup_start_fail: a failing start is told to the caller")
    func fail() async throws {
        try await Story(
            supervisor(child("a"), child("b"), child("c")),
            plans: [("root/b", [.fails])],
            boots: "start root#1/a#1",
            "start root#1/b#1",
            "report start_error root/b fail",
            "stop root#1/a#1 shutdown",
            "stop root#1 shutdown(failed b: fail)",
            "result boot: shutdown(failed b: fail)"
        )
        .check()
    }

    @Test("sup_start_child_returns_error: a child that cannot be started at run time leaves no specification")
    func startChildFails() async throws {
        try await Story(supervisor(child("a")), plans: [("root/x", [.fails])])
            .then(
                .admin("root", .startChild(child("x"))),
                "result root start_child x: error fail",
                "state root#1 a=root#1/a#1 counts 1 1 0 1"
            )
            .check()
    }

    @Test("sup_start_restart_child_returns_error: a child that cannot be restarted by hand stays stopped")
    func restartChildFails() async throws {
        try await Story(supervisor(child("a")), plans: [("root/a", [.succeeds, .fails])])
            .then(.admin("root", .terminateChild("a")), "stop root#1/a#1 shutdown")
            .then(
                .admin("root", .restartChild("a")),
                "result root restart_child a: error fail",
                "state root#1 a=undefined counts 1 0 0 1"
            )
            .check()
    }

    @Test("already_started_outside_supervisor: a start that fails because a name is taken tells the caller so")
    func alreadyStarted() async throws {
        let names = Registry<String, Int>()
        let supervisor = Supervisor("root", logger: .quiet) {
            Child("outside") { context in
                try names.register("name", 1, for: context.pid)
                return Idler()
            }
        }
        try await supervisor.start()
        let owner = try #require(names.lookup("name")?.pid)
        await #expect {
            try await supervisor.reference().startChild(
                Child("x") { context in
                    try names.register("name", 2, for: context.pid)
                    return Idler()
                }
            )
        } throws: { error in
            guard case AdministrationError.startFailed("root/x", .crashed(let cause)) = error,
                case Registry<String, Int>.RegistrationError.alreadyRegistered(owner) = cause
            else { return false }
            return true
        }
        await supervisor.stop()
    }
}
