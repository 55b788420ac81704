import ConcurrencyPrimitives
import Logging

/// The description of a supervisor, shared by all its incarnations.
struct SupervisorSpecification: Sendable {
    enum Kind: Sendable {
        case ordered(Strategy)
        case dynamic(maximumChildren: Int?)
    }

    var name: String
    var kind: Kind
    var intensity: RestartIntensity
    var whenExceeded: WhenExceeded
    var autoShutdown: AutoShutdown
    var restart: Restart
    var shutdown: Shutdown
    var isSignificant: Bool
    var backoff: Backoff?
    var children: [Child]
    /// The first problem with the settings this description was created from, `nil` if they are valid.
    var settingsProblem: String?
    /// Set for a partition of a ``KeyedSupervisor``.
    var keyed: KeyedChildren?
    /// Receives the life phases of each incarnation.
    var onLife: (@Sendable (LifePhase, Logger) -> Void)?

    var treeKind: SupervisionTree.Kind {
        switch kind {
        case .ordered(let strategy): .supervisor(strategy)
        case .dynamic: .dynamicSupervisor
        }
    }

    /// The first problem with this tree, `nil` if it is valid (OTP's `check_childspec`, `supervisor:init/1`). A loop, so that deep trees
    /// use no stack.
    var problem: String? {
        var waiting = [self]
        while let next = waiting.popLast() {
            if let problem = next.ownProblem { return problem }
            for case .supervisor(let specification) in next.children.map(\.specification.kind) {
                waiting.append(specification)
            }
        }
        return nil
    }

    private var ownProblem: String? {
        if let settingsProblem { return settingsProblem }
        if name.isEmpty { return "a supervisor's name must not be empty" }
        if name.contains("/") { return "a supervisor's name must not contain '/', but is '\(name)'" }
        if let problem = keyed?.table.problem { return problem }
        if let problem = intensity.problem { return "supervisor '\(name)': \(problem)" }
        if case .cooldown(let pause) = whenExceeded, pause <= .zero {
            return "supervisor '\(name)': the cooldown must be longer than zero, but is \(pause.clamped)"
        }
        // At the root these settings have no effect, but an invalid one is a mistake there too.
        if case .timeout(let timeout) = shutdown, timeout < .zero {
            return "the shutdown timeout of '\(name)' must not be negative, but is \(timeout.clamped)"
        }
        if let problem = backoff?.problem { return "'\(name)': \(problem)" }
        if case .dynamic(let maximum?) = kind, maximum < 0 {
            return "supervisor '\(name)': maximumChildren must not be negative, but is \(maximum)"
        }
        var ids: Set<String> = []
        for child in children {
            if let problem = child.specification.problem(under: self) { return problem }
            if !ids.insert(child.id).inserted {
                return "supervisor '\(name)' has two children with the id '\(child.id)'"
            }
        }
        return nil
    }
}

/// The children of a supervisor that is one partition of a ``KeyedSupervisor``.
struct KeyedChildren: Sendable {
    let table: any KeyedTable
    /// Whether a child that exceeds the intensity is removed while its supervisor keeps running.
    let givesUpChild: Bool
}

/// The state shared by all processes of one tree.
struct TreeEnvironment: Sendable {
    var clock: any SupervisionClock
    var logger: Logger
    var events = EventHub()
    var activity = TreeActivity()
    var zombies = Zombies()
    var faults = FaultInjection()
    var metrics: SupervisionMetrics?
}
