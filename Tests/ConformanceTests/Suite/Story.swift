import Testing

@testable import Supervision

/// A case of OTP's suite as a scenario with what is expected of each step.
///
/// It is told by our supervisor, and, where there is Erlang, by OTP's too: so the expectations themselves are checked.
///
///     try await Story(supervisor(.oneForOne, child("a"), child("b")))
///         .then(.end("root/a", .kill), "start root#1/a#2", "state root#1 b=root#1/b#1 a=root#1/a#2 counts 2 2 0 2")
///         .check()
struct Story {
    private var scenario: Scenario
    private var expectations: [[String]]

    /// A tree, and lines that its boot writes, in this order.
    init(_ root: Scenario.Node, plans: [(String, [Scenario.Plan])] = [], boots lines: String...) {
        scenario = Scenario(root: root, plans: plans.map { (path: $0.0, plans: $0.1) })
        expectations = [lines]
    }

    /// A step, and lines that it writes, in this order and perhaps among others.
    func then(_ step: Scenario.Step, _ lines: String...) -> Story {
        var next = self
        next.scenario.steps.append(step)
        next.expectations.append(lines)
        return next
    }

    /// The lines of the ordered stop at the end, for a story that the supervisor survives.
    func stops(_ lines: String...) -> Story {
        var next = self
        next.expectations.append(lines)
        return next
    }

    func check(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let ours = DeliberateDifference.reconcile(ours: await Subject.run(scenario))
        for (index, lines) in expectations.enumerated() {
            let written = ours.steps.indices.contains(index) ? ours.steps[index] : []
            var rest = written[...]
            for line in lines {
                guard let place = rest.firstIndex(of: line) else {
                    Issue.record(
                        "step \(index) should write '\(line)', in order, but wrote:\n\(written.joined(separator: "\n"))",
                        sourceLocation: sourceLocation
                    )
                    break
                }
                rest = rest[(place + 1)...]
            }
        }
        #expect(ours.steps.count >= expectations.count, sourceLocation: sourceLocation)
        guard let oracle = Oracle.shared else { return }
        let theirs = DeliberateDifference.reconcile(theirs: try await oracle.run(scenario))
        if let difference = ours.difference(from: theirs) {
            Issue.record("\(difference)", sourceLocation: sourceLocation)
        }
    }
}

/// The root of a story.
func supervisor(
    _ strategy: Strategy,
    intensity: Int = 3,
    auto autoShutdown: AutoShutdown = .never,
    _ children: Scenario.Node...
) -> Scenario.Node {
    Scenario.Node(id: "root", body: .supervisor(strategy, intensity: intensity, autoShutdown, children))
}

/// The root of a story, one_for_one.
func supervisor(_ children: Scenario.Node...) -> Scenario.Node {
    Scenario.Node(id: "root", body: .supervisor(.oneForOne, intensity: 3, .never, children))
}

/// A supervisor below the root, one_for_one.
func nested(
    _ id: String,
    intensity: Int = 3,
    auto autoShutdown: AutoShutdown = .never,
    restart: Restart = .permanent,
    significant: Bool = false,
    _ children: Scenario.Node...
) -> Scenario.Node {
    Scenario.Node(
        id: id,
        restart: restart,
        shutdown: .infinity,
        isSignificant: significant,
        body: .supervisor(.oneForOne, intensity: intensity, autoShutdown, children)
    )
}

/// A child of a story that is no supervisor.
func child(
    _ id: String,
    _ kind: Scenario.Kind = .actor,
    restart: Restart = .permanent,
    shutdown: Shutdown = Scenario.patience,
    significant: Bool = false
) -> Scenario.Node {
    Scenario.Node(id: id, restart: restart, shutdown: shutdown, isSignificant: significant, body: .child(kind))
}

extension Scenario.Plan {
    static let succeeds = Scenario.Plan()
    static let fails = Scenario.Plan(outcome: .fail)
    static let ignores = Scenario.Plan(outcome: .ignore)
}
