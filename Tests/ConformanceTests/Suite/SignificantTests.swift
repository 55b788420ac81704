import Testing

@testable import Supervision

@Suite("supervisor_SUITE: significant children")
struct SignificantTests {
    private static let ends = "stop root#1 shutdown"

    @Test(
        "nonsignificant_temporary: its end never shuts the supervisor down",
        arguments: [AutoShutdown.never, .anySignificant, .allSignificant],
        [Scenario.Ending.normal, .shutdown, .crash, .kill]
    )
    func nonsignificantTemporary(mode: AutoShutdown, ending: Scenario.Ending) async throws {
        try await Story(supervisor(.oneForOne, auto: mode, child("a", .worker, restart: .temporary), child("b")))
            .then(.end("root/a", ending), "state root#1 b=root#1/b#1 counts 1 1 0 1")
            .check()
    }

    @Test(
        "nonsignificant_transient: neither does its end, nor its restart",
        arguments: [AutoShutdown.never, .anySignificant, .allSignificant],
        [Scenario.Ending.normal, .shutdown, .crash, .kill]
    )
    func nonsignificantTransient(mode: AutoShutdown, ending: Scenario.Ending) async throws {
        let a = ending == .crash || ending == .kill ? "a=root#1/a#2 counts 2 2 0 2" : "a=undefined counts 2 1 0 2"
        try await Story(supervisor(.oneForOne, auto: mode, child("a", .worker, restart: .transient), child("b")))
            .then(.end("root/a", ending), "state root#1 b=root#1/b#1 \(a)")
            .check()
    }

    @Test(
        "significant_temporary: its end by itself shuts the supervisor down, a stop by hand does not",
        arguments: [Scenario.Ending.normal, .shutdown, .crash, .kill]
    )
    func significantTemporary(ending: Scenario.Ending) async throws {
        let a = child("a", .worker, restart: .temporary, significant: true)
        let b = child("b", .worker, restart: .temporary, significant: true)
        try await Story(supervisor(.oneForOne, auto: .anySignificant, a, b, child("c")))
            .then(.admin("root", .terminateChild("a")), "state root#1 c=root#1/c#1 b=root#1/b#1 counts 2 2 0 2")
            .then(.end("root/b", ending), "stop root#1/c#1 shutdown", Self.ends)
            .check()
        try await Story(supervisor(.oneForOne, auto: .allSignificant, a, b, child("c")))
            .then(.end("root/a", ending), "state root#1 c=root#1/c#1 b=root#1/b#1 counts 2 2 0 2")
            .then(.end("root/b", ending), "stop root#1/c#1 shutdown", Self.ends)
            .check()
    }

    @Test(
        "significant_transient: an abnormal end is a restart, a normal one shuts the supervisor down",
        arguments: [Scenario.Ending.normal, .shutdown]
    )
    func significantTransient(ending: Scenario.Ending) async throws {
        let a = child("a", .worker, restart: .transient, significant: true)
        let b = child("b", .worker, restart: .transient, significant: true)
        try await Story(supervisor(.oneForOne, auto: .anySignificant, a, b))
            .then(.end("root/a", .kill), "state root#1 b=root#1/b#1 a=root#1/a#2 counts 2 2 0 2")
            .then(.end("root/a", .crash), "state root#1 b=root#1/b#1 a=root#1/a#3 counts 2 2 0 2")
            .then(.end("root/a", ending), "stop root#1/b#1 shutdown", Self.ends)
            .check()
        try await Story(supervisor(.oneForOne, auto: .allSignificant, a, b))
            .then(.end("root/a", ending), "state root#1 b=root#1/b#1 a=undefined counts 2 1 0 2")
            .then(.end("root/b", ending), Self.ends)
            .check()
    }

    @Test(
        "significant_bystander: an end that a sibling caused does not shut the supervisor down",
        arguments: [Strategy.oneForOne, .oneForAll, .restForOne],
        [AutoShutdown.anySignificant, .allSignificant]
    )
    func bystander(strategy: Strategy, mode: AutoShutdown) async throws {
        let rest = strategy == .oneForOne ? "t=root#1/t#1 p=root#1/p#2 counts 2 2 0 2" : "p=root#1/p#2 counts 1 1 0 1"
        try await Story(
            supervisor(strategy, auto: mode, child("p"), child("t", restart: .temporary, significant: true))
        )
        .then(.end("root/p", .crash), "start root#1/p#2", "state root#1 \(rest)")
        .check()
    }

    @Test(
        "significant_escalation: a supervisor that shut down takes the one above with it only if it is significant",
        arguments: [true, false]
    )
    func escalation(isSignificant: Bool) async throws {
        let inner = nested(
            "s",
            auto: .anySignificant,
            restart: .transient,
            significant: isSignificant,
            child("x", .worker, restart: .transient, significant: true)
        )
        try await Story(supervisor(.oneForOne, auto: .anySignificant, inner, child("b")))
            .then(
                .end("root/s/x", .normal),
                "stop root#1/s#1 shutdown",
                isSignificant ? Self.ends : "state root#1 b=root#1/b#1 s=undefined counts 2 1 1 1"
            )
            .check()
    }
}
