/// A snapshot of a tree for frequent reads of large trees: one compact entry per process, with everything else computed on demand.
/// ``SupervisionTree`` is the readable form.
package struct TreeSnapshot: Sendable {
    /// The kind of a node.
    package enum Kind: Sendable, Equatable {
        case supervisor(Strategy)
        case dynamicSupervisor
        /// An actor of a type: an index of ``types``.
        case worker(type: Int)
    }

    /// How close a supervisor is to exceeding its intensity.
    package struct Window: Sendable, Equatable {
        /// The restarts within the last ``RestartIntensity/period``.
        package var used: Int
        package var intensity: RestartIntensity
        package var whenExceeded: WhenExceeded
    }

    /// A delayed restart.
    package struct Delay: Sendable, Equatable {
        package var remaining: Duration
        /// Whether this is the supervisor's cooldown instead of the child's backoff.
        package var isCooldown: Bool
    }

    package struct Node: Sendable {
        /// Its name among its siblings, the same for all incarnations.
        package var name: String
        /// The index of the supervisor above, `nil` for the root.
        package var parent: Int?
        package var depth: Int
        /// The index after the last descendant.
        package var end: Int
        package var kind: Kind
        package var status: SupervisionTree.Status
        package var pid: Pid?
        /// How long ago its start closure returned.
        package var age: Duration?
        package var restarts: Int
        package var lastExit: ExitReason?
        package var abandoned: Int
        package var delay: Delay?
        /// Running supervisors only.
        package var window: Window?
        /// Its id. The ids of a dynamic supervisor's children need not be unique.
        package var id: String

        package var isSupervisor: Bool {
            if case .worker = kind { return false }
            return true
        }
    }

    /// The root first, each node before its children, siblings in start order.
    package private(set) var nodes: [Node] = []
    /// The names of the workers' types.
    package private(set) var types: [String] = []

    package init() {}

    /// The names from the root down to a node, separated by `/`: its position in the tree, the same for all incarnations.
    package func path(_ index: Int) -> String {
        var parts: [String] = []
        var next: Int? = index
        while let current = next, nodes.indices.contains(current) {
            parts.append(nodes[current].name)
            next = nodes[current].parent
        }
        return parts.reversed().joined(separator: "/")
    }

    /// The direct children of a node, in start order.
    package func children(_ index: Int) -> [Int] {
        guard nodes.indices.contains(index) else { return [] }
        var result: [Int] = []
        var next = index + 1
        while next < nodes[index].end {
            result.append(next)
            next = max(next + 1, nodes[next].end)
        }
        return result
    }

    /// The index of the node with this path.
    package func index(of path: String) -> Int? {
        guard let root = nodes.first else { return nil }
        var parts = path.split(separator: "/", omittingEmptySubsequences: false)[...]
        guard let first = parts.popFirst(), first == root.name else { return nil }
        var index = 0
        for part in parts {
            guard let child = children(index).first(where: { nodes[$0].name == part }) else { return nil }
            index = child
        }
        return index
    }

    /// The type name of a worker; `nil` for a supervisor.
    package func typeName(_ node: Node) -> String? {
        guard case .worker(let type) = node.kind, types.indices.contains(type) else { return nil }
        return types[type]
    }
}

extension TreeSnapshot {
    /// Captures a running tree, level by level without recursion, so that deep trees use no stack.
    init(_ root: SupervisorProcess) {
        var builder = Builder(now: root.environment.clock.now)
        builder.add(root)
        nodes = builder.nodes
        types = builder.types
    }

    private struct Builder {
        /// Nodes that wait to be added, the next one last.
        private struct Waiting {
            var parent: Int
            var owner: SupervisorProcess
            var child: ChildSpecification
            var record: SupervisorCore.Record
            var incarnation: SupervisorProcess.Incarnation?
            var childRecord: ChildRecord
        }

        let now: Duration
        var nodes: [Node] = []
        var types: [String] = []
        private var typeIndices: [ObjectIdentifier: Int] = [:]
        private var waiting: [Waiting] = []

        init(now: Duration) {
            self.now = now
        }

        mutating func add(_ root: SupervisorProcess) {
            nodes.append(
                Node(
                    name: root.specification.name,
                    depth: 0,
                    end: 1,
                    kind: kind(of: root.specification),
                    status: .running,
                    pid: Pid(process: root.process),
                    restarts: 0,
                    abandoned: 0,
                    window: root.window(at: now),
                    id: root.specification.name
                )
            )
            descend(into: root, at: 0)
            while let next = waiting.popLast() { add(next) }
            // From the end, so that the ends of all descendants of a node are already known.
            for index in nodes.indices.reversed() {
                nodes[index].end = max(nodes[index].end, index + 1)
                if let parent = nodes[index].parent {
                    nodes[parent].end = max(nodes[parent].end, nodes[index].end)
                }
            }
        }

        private mutating func add(_ next: Waiting) {
            let status = SupervisionTree.Status(next.record, exit: next.incarnation?.pid.exitReason)
            let index = nodes.count
            var node = Node(
                name: next.owner.name(of: next.child.id, next.childRecord.entry),
                parent: next.parent,
                depth: nodes[next.parent].depth + 1,
                end: index + 1,
                kind: kind(of: next.child),
                status: status,
                pid: status.hasProcess ? next.incarnation?.pid : nil,
                age: status == .running ? next.record.startedAt.map { now - $0 } : nil,
                restarts: next.record.restarts,
                lastExit: next.record.lastExit,
                abandoned: next.childRecord.extras.value?.abandoned ?? 0,
                delay: next.record.delay.map {
                    Delay(remaining: max(.zero, $0.until - now), isCooldown: $0.resetsIntensity)
                },
                id: next.child.id
            )
            var supervisor: SupervisorProcess?
            if status.hasProcess, case .supervisor(let process)? = next.incarnation {
                node.window = process.window(at: now)
                supervisor = process
            }
            nodes.append(node)
            if let supervisor { descend(into: supervisor, at: index) }
        }

        private mutating func descend(into supervisor: SupervisorProcess, at index: Int) {
            for (child, record, incarnation, childRecord) in supervisor.snapshot().reversed() {
                waiting.append(
                    Waiting(
                        parent: index,
                        owner: supervisor,
                        child: child,
                        record: record,
                        incarnation: incarnation,
                        childRecord: childRecord
                    )
                )
            }
        }

        private func kind(of specification: SupervisorSpecification) -> Kind {
            switch specification.kind {
            case .ordered(let strategy): .supervisor(strategy)
            case .dynamic: .dynamicSupervisor
            }
        }

        private mutating func kind(of child: ChildSpecification) -> Kind {
            switch child.kind {
            case .supervisor(let specification): return kind(of: specification)
            case .actor(let body):
                // Creating a type's name is expensive, and there are few types.
                let id = ObjectIdentifier(body.type)
                if let index = typeIndices[id] { return .worker(type: index) }
                typeIndices[id] = types.count
                types.append(String(describing: body.type))
                return .worker(type: types.count - 1)
            }
        }
    }
}

extension SupervisorProcess {
    fileprivate func window(at now: Duration) -> TreeSnapshot.Window {
        TreeSnapshot.Window(
            used: restartsInWindow(at: now),
            intensity: specification.intensity,
            whenExceeded: specification.whenExceeded
        )
    }
}

extension Supervisor {
    /// The name of the root.
    package var name: String { specification.name }

    /// A snapshot of the running tree; `nil` when it is not running.
    package func snapshot() -> TreeSnapshot? {
        current.map { TreeSnapshot($0) }
    }
}
