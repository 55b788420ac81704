import SupervisionTesting
import Testing

@testable import Supervision

@Suite("supervisor_SUITE: restarts")
struct RestartTests {
    @Test("one_for_one: the sibling is not touched, the third restart with an intensity of two ends the supervisor")
    func oneForOne() async throws {
        try await Story(supervisor(.oneForOne, intensity: 2, child("a"), child("b")))
            .then(.end("root/a", .kill), "state root#1 b=root#1/b#1 a=root#1/a#2 counts 2 2 0 2")
            .then(.end("root/a", .crash), "state root#1 b=root#1/b#1 a=root#1/a#3 counts 2 2 0 2")
            .then(
                .end("root/a", .kill),
                "report child_terminated root/a killed",
                "report shutdown root/a",
                "stop root#1/b#1 shutdown",
                "stop root#1 shutdown"
            )
            .check()
    }

    @Test(
        "one_for_one_escalation: a child that cannot be restarted uses up the intensity and ends supervisor and sibling"
    )
    func oneForOneEscalation() async throws {
        try await Story(supervisor(.oneForOne, intensity: 4, child("a"), child("b")))
            .then(.plan("root/a", Array(repeating: .fails, count: 4)))
            .then(
                .end("root/a", .crash),
                "start root#1/a#5",
                "report start_error root/a fail",
                "report shutdown root/a",
                "stop root#1/b#1 shutdown",
                "stop root#1 shutdown"
            )
            .check()
    }

    @Test("one_for_all: all are replaced; a round costs one restart")
    func oneForAll() async throws {
        try await Story(supervisor(.oneForAll, intensity: 2, child("a"), child("b")))
            .then(.end("root/a", .crash), "state root#1 b=root#1/b#2 a=root#1/a#2 counts 2 2 0 2")
            .then(.end("root/b", .crash), "state root#1 b=root#1/b#3 a=root#1/a#3 counts 2 2 0 2")
            .then(.end("root/a", .crash), "report shutdown root/a", "stop root#1/b#3 shutdown", "stop root#1 shutdown")
            .check()
    }

    @Test("one_for_all_escalation: a sibling that cannot be restarted ends the supervisor")
    func oneForAllEscalation() async throws {
        try await Story(supervisor(.oneForAll, intensity: 2, child("a"), child("b")))
            .then(.plan("root/b", Array(repeating: .fails, count: 3)))
            .then(.end("root/a", .crash), "start root#1/b#3", "report shutdown root/b", "stop root#1 shutdown")
            .check()
    }

    @Test("one_for_all_other_child_fails_restart: what had been restarted is stopped again, and all are tried again")
    func oneForAllOtherFails() async throws {
        try await Story(supervisor(.oneForAll, intensity: 3, child("a"), child("b")))
            .then(.plan("root/b", [.fails]))
            .then(
                .end("root/a", .crash),
                "start root#1/a#2",
                "start root#1/b#2",
                "report start_error root/b fail",
                "stop root#1/a#2 shutdown",
                "start root#1/a#3",
                "start root#1/b#3",
                "state root#1 b=root#1/b#3 a=root#1/a#3 counts 2 2 0 2"
            )
            .check()
    }

    @Test("rest_for_one: those before the child are not touched, those after it are replaced")
    func restForOne() async throws {
        try await Story(supervisor(.restForOne, intensity: 2, child("a"), child("b"), child("c")))
            .then(.end("root/b", .kill), "state root#1 c=root#1/c#2 b=root#1/b#2 a=root#1/a#1 counts 3 3 0 3")
            .then(.end("root/c", .kill), "state root#1 c=root#1/c#3 b=root#1/b#2 a=root#1/a#1 counts 3 3 0 3")
            .then(.end("root/b", .kill), "report shutdown root/b", "stop root#1/a#1 shutdown", "stop root#1 shutdown")
            .check()
    }

    @Test("rest_for_one_escalation: a later sibling that cannot be restarted ends the supervisor")
    func restForOneEscalation() async throws {
        try await Story(supervisor(.restForOne, intensity: 2, child("a"), child("b")))
            .then(.plan("root/b", Array(repeating: .fails, count: 3)))
            .then(.end("root/a", .crash), "start root#1/b#3", "report shutdown root/b", "stop root#1 shutdown")
            .check()
    }

    @Test("rest_for_one_other_child_fails_restart: the retry begins at the sibling that failed")
    func restForOneOtherFails() async throws {
        try await Story(supervisor(.restForOne, intensity: 3, child("a"), child("b"), child("c")))
            .then(.plan("root/b", [.fails]))
            .then(
                .end("root/a", .crash),
                "start root#1/a#2",
                "start root#1/b#2",
                "report start_error root/b fail",
                "start root#1/b#3",
                "start root#1/c#2",
                "state root#1 c=root#1/c#2 b=root#1/b#3 a=root#1/a#2 counts 3 3 0 3"
            )
            .check()
    }

    @Test("multiple_restarts: restarts that are further apart than the period never end the supervisor")
    func multipleRestarts() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("root", intensity: .init(1, within: .seconds(1)), logger: .quiet, clock: clock) {
            Child("a") { _ in Idler() }
        }
        try await supervisor.start()
        let tree = LiveTree(supervisor)
        for _ in 1...20 {
            try tree.end("root/a")
            try await tree.settled()
            clock.advance(by: .milliseconds(1001))
        }
        #expect(supervisor.tree().children.first?.restarts == 20)
        await supervisor.stop()
    }

    @Test(
        "hanging_restart_loop: while a restart fails again and again, calls are answered, and a terminate withdraws it"
    )
    func hangingLoop() async throws {
        let restarting: [Scenario.Meanwhile] = [
            .admin(.startChild(child("a"))), .admin(.restartChild("a")), .admin(.deleteChild("a")),
        ]
        try await Story(supervisor(.oneForOne, intensity: 8, child("a"), child("b")))
            .then(
                .plan(
                    "root/a",
                    [
                        Scenario.Plan(outcome: .fail, meanwhile: restarting),
                        .fails,
                        Scenario.Plan(outcome: .fail, meanwhile: [.admin(.terminateChild("a"))]),
                    ]
                )
            )
            .then(
                .end("root/a", .crash),
                "start root#1/a#4",
                "result root delete_child a: restarting",
                "result root restart_child a: restarting",
                "result root start_child a: already_present",
                "result root terminate_child a: ok",
                "state root#1 b=root#1/b#1 a=undefined counts 2 1 0 2"
            )
            .stops("stop root#1/b#1 shutdown", "stop root#1 shutdown")
            .check()
    }

    @Test("hanging_restart_loop_rest_for_one: the later sibling is down, and stays so when the restart is withdrawn")
    func hangingLoopRestForOne() async throws {
        try await Story(supervisor(.restForOne, intensity: 8, child("a"), child("b"), child("c")))
            .then(
                .plan(
                    "root/b",
                    [
                        Scenario.Plan(
                            outcome: .fail,
                            meanwhile: [
                                .admin(.restartChild("b")), .admin(.deleteChild("c")), .admin(.terminateChild("b")),
                            ]
                        )
                    ]
                )
            )
            .then(
                .end("root/b", .crash),
                "stop root#1/c#1 shutdown",
                "start root#1/b#2",
                "result root delete_child c: ok",
                "result root restart_child b: restarting",
                "result root terminate_child b: ok",
                "state root#1 b=undefined a=root#1/a#1 counts 2 1 0 2"
            )
            .then(.admin("root", .restartChild("b")), "result root restart_child b: ok root#1/b#3")
            .check()
    }

    @Test(
        "temporary_bystander: a temporary sibling is stopped and not restarted",
        arguments: [Strategy.oneForAll, .restForOne]
    )
    func temporaryBystander(strategy: Strategy) async throws {
        try await Story(supervisor(strategy, child("a"), child("b", restart: .temporary)))
            .then(
                .end("root/a", .crash),
                "stop root#1/b#1 shutdown",
                "start root#1/a#2",
                "state root#1 a=root#1/a#2 counts 1 1 0 1"
            )
            .check()
    }

    @Test("order_of_children: started in order, stopped in reverse, also in part")
    func order() async throws {
        let children = ["a", "b", "c", "d", "e"].map { child($0, .polite) }
        try await Story(
            supervisor(.restForOne, intensity: 5, children[0], children[1], children[2], children[3], children[4]),
            boots: "start root#1/a#1",
            "start root#1/b#1",
            "start root#1/c#1",
            "start root#1/d#1",
            "start root#1/e#1"
        )
        .then(
            .end("root/b", .kill),
            "stop root#1/b#1 killed",
            "stop root#1/e#1 shutdown",
            "stop root#1/d#1 shutdown",
            "stop root#1/c#1 shutdown",
            "start root#1/b#2",
            "start root#1/c#2",
            "start root#1/d#2",
            "start root#1/e#2"
        )
        .stops(
            "stop root#1/e#2 shutdown",
            "stop root#1/d#2 shutdown",
            "stop root#1/c#2 shutdown",
            "stop root#1/b#2 shutdown",
            "stop root#1/a#1 shutdown",
            "stop root#1 shutdown"
        )
        .check()
    }

    @Test("tree: only the dead worker is restarted; after an escalation static children are back and added ones gone")
    func tree() async throws {
        try await Story(
            supervisor(
                .oneForAll,
                intensity: 4,
                nested("s", intensity: 1, child("x"), child("y"))
            )
        )
        .then(.admin("root/s", .startChild(child("z"))), "result root/s start_child z: ok root#1/s#1/z#1")
        .then(
            .end("root/s/x", .kill),
            "state root#1/s#1 z=root#1/s#1/z#1 y=root#1/s#1/y#1 x=root#1/s#1/x#2 counts 3 3 0 3"
        )
        .then(
            .end("root/s/x", .kill),
            "report shutdown root/s/x",
            "stop root#1/s#1 shutdown",
            "report child_terminated root/s shutdown",
            "state root#1/s#2 y=root#1/s#2/y#1 x=root#1/s#2/x#1 counts 2 2 0 2"
        )
        .check()
    }
}
