@testable import Supervision

/// One story to be told by OTP's supervisor and by ours: a tree, how starts will go, and what happens to it.
struct Scenario: Sendable, Equatable {
    /// A child that is not a supervisor.
    enum Kind: String, Sendable, CaseIterable {
        /// An actor without `run()`; in Erlang a process that does not trap exits.
        case actor
        /// A ``Worker`` that does not take its stop request: cancelled when it is stopped.
        case worker
        /// A worker that takes its stop request and ends as asked; in Erlang a process that traps exits.
        case polite
        /// A worker that takes its stop request and fails when it is asked to stop.
        case grumpy
    }

    /// A shutdown timeout that does not pass: no time passes in a scenario, however busy the machine is.
    static let patience = Shutdown.timeout(.seconds(3600))

    struct Node: Sendable, Equatable {
        enum Body: Sendable, Equatable {
            case child(Kind)
            indirect case supervisor(Strategy, intensity: Int, AutoShutdown, [Node])
        }

        var id: String
        var restart = Restart.permanent
        var shutdown = Scenario.patience
        var isSignificant = false
        var body: Body
    }

    enum Ending: String, Sendable, CaseIterable {
        case crash, kill, shutdown, cause, normal
    }

    enum Outcome: String, Sendable {
        case ok, fail, ignore
    }

    enum Operation: Sendable, Equatable {
        case startChild(Node)
        case terminateChild(String)
        case restartChild(String)
        case deleteChild(String)
    }

    /// Something that happens while a supervisor waits for a start to return.
    enum Meanwhile: Sendable, Equatable {
        case admin(Operation)
        /// A sibling ends, if it is a running actor.
        case end(String, Ending)
    }

    /// How one start of a child goes.
    struct Plan: Sendable, Equatable {
        var outcome = Outcome.ok
        var meanwhile: [Meanwhile] = []
    }

    /// What is done to the tree at rest. A step that names no living process does nothing, on both sides.
    enum Step: Sendable, Equatable {
        case plan(String, [Plan])
        case end(String, Ending)
        /// Stops a supervisor: as `gen_server:stop` does, the root with `shutdown` as its parent does; or kills it.
        /// With `normal` it is an exit signal from a stranger.
        case stop(String, Ending)
        case admin(String, Operation)
    }

    var root: Node
    var plans: [(path: String, plans: [Plan])] = []
    var steps: [Step] = []

    static func == (left: Scenario, right: Scenario) -> Bool {
        left.root == right.root && left.steps == right.steps
            && left.plans.elementsEqual(right.plans) { $0.path == $1.path && $0.plans == $1.plans }
    }
}

extension Scenario.Operation {
    /// How it is called in traces.
    var text: String {
        switch self {
        case .startChild(let node): "start_child \(node.id)"
        case .terminateChild(let id): "terminate_child \(id)"
        case .restartChild(let id): "restart_child \(id)"
        case .deleteChild(let id): "delete_child \(id)"
        }
    }
}

// MARK: - As a term

extension Scenario: CustomStringConvertible {
    /// The term that the oracle reads, on one line.
    var term: String {
        "{\(root.term),\(Scenario.list(plans.map(Scenario.term))),\(Scenario.list(steps.map(\.term)))}."
    }

    /// The same for people, one step a line.
    var description: String {
        var lines = ["{\(root.term),"]
        lines.append(" \(Scenario.list(plans.map(Scenario.term))),")
        lines.append(" [" + steps.map(\.term).joined(separator: ",\n  ") + "]}.")
        return lines.joined(separator: "\n")
    }

    fileprivate static func list(_ terms: [String]) -> String { "[" + terms.joined(separator: ",") + "]" }

    fileprivate static func term(_ plan: (path: String, plans: [Plan])) -> String {
        "{\"\(plan.path)\",\(list(plan.plans.map(\.term)))}"
    }
}

extension Scenario.Node {
    var term: String {
        let common = "\"\(id)\",\(restart.term),\(shutdown.term),\(isSignificant)"
        switch body {
        case .child(let kind): return "{child,\(common),\(kind.rawValue)}"
        case .supervisor(let strategy, let intensity, let autoShutdown, let children):
            let flags = "\(strategy.term),\(intensity),\(autoShutdown.term)"
            return "{sup,\(common),\(flags),\(Scenario.list(children.map(\.term)))}"
        }
    }

    var isSupervisor: Bool {
        if case .supervisor = body { true } else { false }
    }
}

extension Scenario.Step {
    var term: String {
        switch self {
        case .plan(let path, let plans): "{plan,\"\(path)\",\(Scenario.list(plans.map(\.term)))}"
        case .end(let path, let ending): "{'end',\"\(path)\",\(ending.rawValue)}"
        case .stop(let path, let ending): "{stop,\"\(path)\",\(ending.rawValue)}"
        case .admin(let path, let operation): "{admin,\"\(path)\",\(operation.term)}"
        }
    }
}

extension Scenario.Plan {
    var term: String { "{\(outcome.rawValue),\(Scenario.list(meanwhile.map(\.term)))}" }
}

extension Scenario.Meanwhile {
    var term: String {
        switch self {
        case .admin(let operation): "{admin,\(operation.term)}"
        case .end(let id, let ending): "{'end',\"\(id)\",\(ending.rawValue)}"
        }
    }
}

extension Scenario.Operation {
    var term: String {
        switch self {
        case .startChild(let node): "{start_child,\(node.term)}"
        case .terminateChild(let id): "{terminate_child,\"\(id)\"}"
        case .restartChild(let id): "{restart_child,\"\(id)\"}"
        case .deleteChild(let id): "{delete_child,\"\(id)\"}"
        }
    }
}

extension Restart {
    fileprivate var term: String {
        switch self {
        case .permanent: "permanent"
        case .transient: "transient"
        case .temporary: "temporary"
        }
    }
}

extension Shutdown {
    fileprivate var term: String {
        switch self {
        case .brutalKill: "brutal_kill"
        case .timeout(let timeout): "\(timeout.components.seconds * 1000)"
        case .infinity: "infinity"
        }
    }
}

extension Strategy {
    fileprivate var term: String {
        switch self {
        case .oneForOne: "one_for_one"
        case .oneForAll: "one_for_all"
        case .restForOne: "rest_for_one"
        }
    }
}

extension AutoShutdown {
    fileprivate var term: String {
        switch self {
        case .never: "never"
        case .anySignificant: "any_significant"
        case .allSignificant: "all_significant"
        }
    }
}
