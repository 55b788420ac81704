import Testing

@testable import Supervision

@Suite("supervisor_SUITE: terminations")
struct TerminationTests {
    private static let restarted = "state root#1 b=root#1/b#1 a=root#1/a#2 counts 2 2 0 2"
    private static let kept = "state root#1 b=root#1/b#1 a=undefined counts 2 1 0 2"
    private static let forgotten = "state root#1 b=root#1/b#1 counts 1 1 0 1"

    private func end(_ restart: Restart, _ ending: Scenario.Ending, _ lines: [String]) async throws {
        // A temporary child that ended is not restarted either: the worker kind is the one that can end in every way.
        var story = Story(supervisor(child("a", .worker, restart: restart), child("b")))
        switch lines.count {
        case 1: story = story.then(.end("root/a", ending), lines[0])
        default: story = story.then(.end("root/a", ending), lines[0], lines[1])
        }
        try await story.check()
    }

    @Test("permanent_normal: a permanent child that ends normally is restarted, and reported")
    func permanentNormal() async throws {
        try await end(.permanent, .normal, ["report child_terminated root/a normal", Self.restarted])
    }

    @Test("transient_normal: a transient child that ends normally is not restarted, its specification stays")
    func transientNormal() async throws {
        try await end(.transient, .normal, [Self.kept])
    }

    @Test("temporary_normal: a temporary child that ends normally is forgotten")
    func temporaryNormal() async throws {
        try await end(.temporary, .normal, [Self.forgotten])
    }

    @Test(
        "permanent_shutdown: with and without a cause, it is restarted",
        arguments: [Scenario.Ending.shutdown, .cause]
    )
    func permanentShutdown(ending: Scenario.Ending) async throws {
        try await end(.permanent, ending, [Self.restarted])
    }

    @Test(
        "transient_shutdown: with and without a cause, it stays stopped",
        arguments: [Scenario.Ending.shutdown, .cause]
    )
    func transientShutdown(ending: Scenario.Ending) async throws {
        try await end(.transient, ending, [Self.kept])
    }

    @Test(
        "temporary_shutdown: with and without a cause, it is forgotten",
        arguments: [Scenario.Ending.shutdown, .cause]
    )
    func temporaryShutdown(ending: Scenario.Ending) async throws {
        try await end(.temporary, ending, [Self.forgotten])
    }

    @Test("permanent_abnormal: it is restarted, and reported", arguments: [Scenario.Ending.crash, .kill])
    func permanentAbnormal(ending: Scenario.Ending) async throws {
        let reason = ending == .kill ? "killed" : "crash"
        try await end(.permanent, ending, ["report child_terminated root/a \(reason)", Self.restarted])
    }

    @Test("transient_abnormal: it is restarted, and reported", arguments: [Scenario.Ending.crash, .kill])
    func transientAbnormal(ending: Scenario.Ending) async throws {
        let reason = ending == .kill ? "killed" : "crash"
        try await end(.transient, ending, ["report child_terminated root/a \(reason)", Self.restarted])
    }

    @Test("temporary_abnormal: it is forgotten, and reported", arguments: [Scenario.Ending.crash, .kill])
    func temporaryAbnormal(ending: Scenario.Ending) async throws {
        let reason = ending == .kill ? "killed" : "crash"
        try await end(.temporary, ending, ["report child_terminated root/a \(reason)", Self.forgotten])
    }

    @Test("faulty_application_shutdown: a failure at boot carries the whole nested cause")
    func nestedCause() async throws {
        try await Story(
            supervisor(nested("s", nested("t", child("x")))),
            plans: [("root/s/t/x", [.fails])],
            boots: "result boot: shutdown(failed s: shutdown(failed t: shutdown(failed x: fail)))"
        )
        .check()
    }

    @Test(
        "do_not_save_child_specs_for_temporary_children: the same id can be started again after every kind of end",
        arguments: [Scenario.Ending.normal, .shutdown, .crash, .kill],
        [Strategy.oneForOne, .oneForAll, .restForOne]
    )
    func temporaryAgain(ending: Scenario.Ending, strategy: Strategy) async throws {
        let added = child("x", .worker, restart: .temporary)
        try await Story(supervisor(strategy, child("a")))
            .then(.admin("root", .startChild(added)), "result root start_child x: ok root#1/x#1")
            .then(.end("root/x", ending), "state root#1 a=root#1/a#1 counts 1 1 0 1")
            .then(.admin("root", .startChild(added)), "result root start_child x: ok root#1/x#2")
            .then(.admin("root", .terminateChild("x")), "state root#1 a=root#1/a#1 counts 1 1 0 1")
            .then(.admin("root", .startChild(added)), "result root start_child x: ok root#1/x#3")
            .check()
    }

    @Test(
        "do_not_save_start_parameters_for_temporary_children: what its start closure holds is released with the child"
    )
    func closureReleased() async throws {
        final class Argument: Sendable {}
        let supervisor = Supervisor("root", logger: .quiet) {}
        try await supervisor.start()
        weak var held: Argument?
        func startOne() async throws -> Pid? {
            let argument = Argument()
            held = argument
            return try await supervisor.reference().startChild(
                Child("x", restart: .temporary) { _ in
                    _ = argument
                    return Idler()
                }
            )
        }
        let pid = try #require(try await startOne())
        #expect(held != nil)
        pid.kill()
        _ = await pid.exited()
        _ = await supervisor.settled()
        #expect(held == nil)
        await supervisor.stop()
    }
}
