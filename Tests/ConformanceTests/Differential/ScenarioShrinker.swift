@testable import Supervision

/// Makes a scenario that fails smaller, as long as it goes on failing.
struct ScenarioShrinker {
    /// The smallest scenario found for which `fails` holds; it holds for `scenario`.
    static func shrink(_ scenario: Scenario, while fails: (Scenario) async throws -> Bool) async rethrows -> Scenario {
        var best = scenario
        var isShrinking = true
        while isShrinking {
            isShrinking = false
            for candidate in candidates(best) where candidate != best {
                if try await fails(candidate) {
                    best = candidate
                    isShrinking = true
                    break
                }
            }
        }
        return best
    }

    private static func candidates(_ scenario: Scenario) -> [Scenario] {
        var result: [Scenario] = []
        func add(_ change: (inout Scenario) -> Void) {
            var next = scenario
            change(&next)
            result.append(next)
        }
        for index in scenario.steps.indices.reversed() { add { $0.steps.remove(at: index) } }
        for index in scenario.plans.indices { add { $0.plans.remove(at: index) } }
        for (index, step) in scenario.steps.enumerated() {
            guard case .plan(let path, let plans) = step else { continue }
            for smaller in smallerPlans(plans) { add { $0.steps[index] = .plan(path, smaller) } }
        }
        for (index, plan) in scenario.plans.enumerated() {
            for smaller in smallerPlans(plan.plans) { add { $0.plans[index].plans = smaller } }
        }
        for smaller in smallerNodes(scenario.root) { add { $0.root = smaller } }
        for (index, step) in scenario.steps.enumerated() {
            switch step {
            case .end(let path, let ending) where ending != .crash: add { $0.steps[index] = .end(path, .crash) }
            case .admin(let path, .startChild(let node)):
                for smaller in smallerNodes(node) { add { $0.steps[index] = .admin(path, .startChild(smaller)) } }
            default: break
            }
        }
        return result
    }

    private static func smallerPlans(_ plans: [Scenario.Plan]) -> [[Scenario.Plan]] {
        var result: [[Scenario.Plan]] = []
        for index in plans.indices where plans.count > 1 {
            var fewer = plans
            fewer.remove(at: index)
            result.append(fewer)
        }
        for (index, plan) in plans.enumerated() {
            for action in plan.meanwhile.indices {
                var fewer = plans
                fewer[index].meanwhile.remove(at: action)
                result.append(fewer)
            }
            if plan.outcome != .ok {
                var milder = plans
                milder[index].outcome = .ok
                result.append(milder)
            }
        }
        return result
    }

    private static func smallerNodes(_ node: Scenario.Node) -> [Scenario.Node] {
        var result: [Scenario.Node] = []
        func add(_ change: (inout Scenario.Node) -> Void) {
            var next = node
            change(&next)
            result.append(next)
        }
        switch node.body {
        case .child(let kind):
            if kind != .actor { add { $0.body = .child(.actor) } }
        case .supervisor(let strategy, let intensity, let autoShutdown, let children):
            for index in children.indices where children.count > 1 {
                var fewer = children
                fewer.remove(at: index)
                add { $0.body = .supervisor(strategy, intensity: intensity, autoShutdown, fewer) }
            }
            for (index, child) in children.enumerated() {
                if child.isSupervisor {
                    var flat = children
                    flat[index] = Scenario.Node(id: child.id, restart: child.restart, body: .child(.actor))
                    add { $0.body = .supervisor(strategy, intensity: intensity, autoShutdown, flat) }
                }
                for smaller in smallerNodes(child) {
                    var next = children
                    next[index] = smaller
                    add { $0.body = .supervisor(strategy, intensity: intensity, autoShutdown, next) }
                }
            }
            if strategy != .oneForOne {
                add { $0.body = .supervisor(.oneForOne, intensity: intensity, autoShutdown, children) }
            }
            if autoShutdown != .never, !children.contains(where: \.isSignificant) {
                add { $0.body = .supervisor(strategy, intensity: intensity, .never, children) }
            }
            if intensity > 0 {
                add { $0.body = .supervisor(strategy, intensity: intensity - 1, autoShutdown, children) }
            }
        }
        if node.isSignificant { add { $0.isSignificant = false } }
        if node.restart != .permanent, !node.isSignificant { add { $0.restart = .permanent } }
        if node.shutdown != Scenario.patience { add { $0.shutdown = Scenario.patience } }
        return result
    }
}
