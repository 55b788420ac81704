@testable import Supervision

/// Makes a scenario from a seed: always the same one from the same seed.
struct ScenarioGenerator {
    private var random: SplitMix64
    /// The paths of everything that may be there at some time, with the supervisors among them.
    private var paths: [String] = []
    private var supervisors: [(path: String, autoShutdown: AutoShutdown)] = []

    static func scenario(seed: UInt64) -> Scenario {
        var generator = ScenarioGenerator(random: SplitMix64(seed: seed))
        return generator.scenario()
    }

    private init(random: SplitMix64) { self.random = random }

    private mutating func below(_ limit: Int) -> Int { Int(random.next() % UInt64(limit)) }

    private mutating func one(in chance: Int) -> Bool { below(chance) == 0 }

    private mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }

    private mutating func scenario() -> Scenario {
        let root = supervisor("root", under: "", depth: 0, significantFor: .never)
        var scenario = Scenario(root: root)
        // Failing starts at boot are rare: most scenarios end with them.
        if one(in: 12) { scenario.plans = [planning()] }
        for _ in 0..<(2 + below(9)) { scenario.steps.append(step()) }
        return scenario
    }

    // MARK: - Trees

    private mutating func supervisor(
        _ id: String,
        under parent: String,
        depth: Int,
        significantFor: AutoShutdown
    ) -> Scenario.Node {
        let path = parent.isEmpty ? id : parent + "/" + id
        let strategy = pick([Strategy.oneForOne, .oneForAll, .restForOne])
        let autoShutdown = pick([AutoShutdown.never, .never, .anySignificant, .allSignificant])
        if !parent.isEmpty { paths.append(path) }
        supervisors.append((path, autoShutdown))
        var children: [Scenario.Node] = []
        let count = 1 + below(depth == 0 ? 5 : 3)
        for index in 0..<count {
            let child = String(UnicodeScalar(UInt8(ascii: "a") + UInt8(index)))
            if depth < 2, one(in: 4) {
                children.append(supervisor(child, under: path, depth: depth + 1, significantFor: autoShutdown))
            } else {
                children.append(leaf(child, under: path, autoShutdown))
            }
        }
        var node = Scenario.Node(
            id: id,
            body: .supervisor(strategy, intensity: pick([0, 1, 1, 2, 3, 5]), autoShutdown, children)
        )
        guard !parent.isEmpty else { return node }
        node.restart = pick([.permanent, .permanent, .transient, .temporary])
        node.shutdown = pick([.infinity, .infinity, Scenario.patience, .brutalKill])
        node.isSignificant = isSignificant(node.restart, significantFor)
        return node
    }

    private mutating func leaf(_ id: String, under parent: String, _ autoShutdown: AutoShutdown) -> Scenario.Node {
        paths.append(parent + "/" + id)
        var node = Scenario.Node(
            id: id,
            restart: pick([.permanent, .permanent, .transient, .temporary]),
            shutdown: pick([Scenario.patience, Scenario.patience, .infinity, .brutalKill]),
            body: .child(pick([.actor, .actor, .actor, .worker, .polite, .grumpy]))
        )
        node.isSignificant = isSignificant(node.restart, autoShutdown)
        return node
    }

    private mutating func isSignificant(_ restart: Restart, _ autoShutdown: AutoShutdown) -> Bool {
        restart != .permanent && autoShutdown != .never && !one(in: 3)
    }

    // MARK: - Steps

    private mutating func step() -> Scenario.Step {
        switch below(16) {
        case 0..<7: return .end(pick(paths), pick(Scenario.Ending.allCases + [.crash, .crash]))
        case 7, 8, 9:
            let (path, plans) = planning()
            return .plan(path, plans)
        case 10 where !one(in: 3): return .stop(pick(supervisors).path, pick(Scenario.Ending.allCases))
        default:
            let (path, autoShutdown) = pick(supervisors)
            return .admin(path, operation(on: path, autoShutdown))
        }
    }

    /// How the next starts of some child go. Only below the root does something happen meanwhile: a nested supervisor that
    /// is not at rest yet runs beside its parent, in no order.
    private mutating func planning() -> (path: String, plans: [Scenario.Plan]) {
        let path = pick(paths)
        let isBelowRoot = path.split(separator: "/").count == 2
        let plans = (0..<(1 + below(3))).map { _ in
            var plan = Scenario.Plan(outcome: pick([.ok, .ok, .fail, .fail, .ignore]))
            while isBelowRoot, one(in: 2), plan.meanwhile.count < 3 { plan.meanwhile.append(meanwhile()) }
            return plan
        }
        return (path, plans)
    }

    private mutating func meanwhile() -> Scenario.Meanwhile {
        if one(in: 2) { return .end(childID(of: "root"), pick([.crash, .kill, .shutdown, .cause])) }
        let autoShutdown = supervisors.first?.autoShutdown ?? .never
        return .admin(operation(on: "root", autoShutdown))
    }

    private mutating func operation(on path: String, _ autoShutdown: AutoShutdown) -> Scenario.Operation {
        let id = childID(of: path)
        switch below(5) {
        case 0: return .restartChild(id)
        case 1: return .deleteChild(id)
        case 2: return .terminateChild(id)
        case 3: return .startChild(leaf(id, under: path, autoShutdown))
        default:
            let fresh = pick(["x", "y", "z"])
            if path == "root" || !one(in: 4) { return .startChild(leaf(fresh, under: path, autoShutdown)) }
            return .startChild(supervisor(fresh, under: path, depth: 2, significantFor: autoShutdown))
        }
    }

    private mutating func childID(of path: String) -> String {
        let names = paths.filter { $0.hasPrefix(path + "/") }.map { $0.dropFirst(path.count + 1) }
            .filter { !$0.contains("/") }
        return names.isEmpty ? "x" : String(pick(names))
    }
}
