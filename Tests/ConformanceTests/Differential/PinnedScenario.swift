import Supervision
import Testing

/// A scenario that once told our supervisor and OTP's apart, or that is too rare to be left to chance.
struct PinnedScenario: Sendable, CustomTestStringConvertible {
    var name: String
    var scenario: Scenario

    var testDescription: String { name }

    static let all: [PinnedScenario] = [
        PinnedScenario(
            name: "a request that arrives during a failing restart is served before the retry",
            scenario: Scenario(
                root: supervisor(.restForOne, child("a"), child("b")),
                steps: [
                    .plan("root/a", [Scenario.Plan(outcome: .fail, meanwhile: [.admin(.terminateChild("a"))])]),
                    .end("root/a", .crash),
                    .admin("root", .restartChild("a")),
                    .admin("root", .restartChild("b")),
                ]
            )
        ),
        PinnedScenario(
            name:
                "one_for_all: when a sibling cannot be started, only the sibling is restarting, not the child that failed",
            scenario: Scenario(
                root: supervisor(.oneForAll, child("b"), child("c"), child("d")),
                steps: [
                    .plan(
                        "root/b",
                        [
                            Scenario.Plan(
                                outcome: .fail,
                                meanwhile: [.admin(.deleteChild("c")), .admin(.terminateChild("b"))]
                            )
                        ]
                    ),
                    .end("root/c", .crash),
                    .admin("root", .restartChild("d")),
                ]
            )
        ),
        PinnedScenario(
            name: "one_for_all: the retries of two failed restarts come before an exit between them",
            scenario: Scenario(
                root: supervisor(.oneForAll, intensity: 2, child("a"), child("b")),
                steps: [
                    .plan(
                        "root/b",
                        [
                            Scenario.Plan(outcome: .fail, meanwhile: [.end("a", .cause)]),
                            Scenario.Plan(outcome: .fail, meanwhile: [.end("a", .crash)]),
                        ]
                    ),
                    .end("root/b", .crash),
                ]
            )
        ),
        PinnedScenario(
            name:
                "a permanent child to be killed, or with a cause, that has ended by itself when it is to be stopped: reported",
            scenario: Scenario(
                root: supervisor(
                    child("a", shutdown: .brutalKill),
                    child("b"),
                    child("c", restart: .transient, shutdown: .brutalKill),
                    child("d")
                ),
                plans: [
                    (
                        "root/d",
                        [
                            Scenario.Plan(
                                outcome: .fail,
                                meanwhile: [.end("a", .shutdown), .end("b", .cause), .end("c", .shutdown)]
                            )
                        ]
                    )
                ]
            )
        ),
    ]
}
