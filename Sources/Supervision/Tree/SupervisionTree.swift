/// A snapshot of a tree.
public struct SupervisionTree: Sendable {
    /// What a node is.
    public enum Kind: Sendable, Hashable {
        /// A supervisor with this strategy.
        case supervisor(Strategy)
        /// A dynamic supervisor.
        case dynamicSupervisor
        /// An actor of this type.
        case worker(type: String)
    }

    /// The status of a node.
    public enum Status: String, Sendable, Hashable {
        /// Its start closure had not returned.
        case starting
        /// It was alive.
        case running
        /// It had been asked to stop.
        case stopping
        /// It was waiting to be restarted.
        case restarting
        /// It had no process.
        case stopped
    }

    /// The id among the siblings.
    public var name: String
    /// The names from the root down, separated by `/`.
    public var path: String
    /// Supervisor or worker.
    public var kind: Kind
    /// Its status.
    public var status: Status
    /// The incarnation, `nil` when there was none.
    public var pid: Pid?
    /// How long ago its start closure returned; `nil` when it was not running, and for the root.
    public var age: Duration?
    /// How often it has been restarted, under the same incarnation of its supervisor.
    public var restarts: Int
    /// Why the previous incarnation ended, `nil` when there was none.
    public var lastExit: ExitReason?
    /// The number of abandoned tasks of earlier incarnations that are known to be running.
    public var abandoned: Int
    /// The children in start order.
    public var children: [SupervisionTree]

    /// Every node, this one first, in start order.
    public var nodes: [SupervisionTree] {
        var result: [SupervisionTree] = []
        var waiting = [self]
        while let next = waiting.popLast() {
            result.append(next)
            waiting.append(contentsOf: next.children.reversed())
        }
        return result
    }
}

extension SupervisionTree: CustomStringConvertible {
    /// The tree as text, one line per node.
    public var description: String {
        var lines: [(left: String, right: String)] = []
        append(to: &lines, first: "", rest: "")
        let width = lines.map(\.left.count).max() ?? 0
        return lines.map { $0.left + String(repeating: " ", count: width - $0.left.count + 2) + $0.right }
            .joined(separator: "\n")
    }

    private func append(to lines: inout [(left: String, right: String)], first: String, rest: String) {
        lines.append((first + name, details))
        for (index, child) in children.enumerated() {
            let isLast = index == children.count - 1
            child.append(
                to: &lines,
                first: rest + (isLast ? "└─ " : "├─ "),
                rest: rest + (isLast ? "   " : "│  ")
            )
        }
    }

    private var details: String {
        var parts: [String] = []
        parts.append(kindName)
        if case .dynamicSupervisor = kind { parts.append("children: \(children.count)") }
        if let pid { parts.append("\(pid)") }
        if status != .running { parts.append(status.rawValue) }
        if restarts > 0 { parts.append("restarts: \(restarts)") }
        if let lastExit { parts.append("last exit: \(lastExit)") }
        if abandoned > 0 { parts.append("abandoned: \(abandoned)") }
        return parts.joined(separator: "  ")
    }
}

extension SupervisionTree.Status {
    /// - Parameter exit: Why the incarnation is ending or has ended, `nil` while it is alive.
    init(_ record: SupervisorCore.Record, exit: ExitReason?) {
        let restart = record.settings.restart
        self =
            switch (record.status, exit) {
            case (.stopped, _): .stopped
            case (.starting, _): .starting
            case (.stopping, _): .stopping
            case (.restarting, _): .restarting
            case (.running, nil): .running
            case (.running, let reason?), (.down(let reason), _):
                restart.restarts(after: reason) ? .restarting : .stopped
            }
    }

    var hasProcess: Bool {
        switch self {
        case .starting, .running, .stopping: true
        case .restarting, .stopped: false
        }
    }
}

extension SupervisorProcess {
    /// Built level by level and assembled from the end, so that deep trees use no stack.
    func tree() -> SupervisionTree {
        var nodes = [node()]
        var parents: [Int?] = [nil]
        var waiting: [(process: SupervisorProcess, index: Int)] = [(self, 0)]
        while let (process, index) = waiting.popLast() {
            for (child, record, incarnation, childRecord) in process.snapshot() {
                let node = process.node(child, record, incarnation, childRecord)
                nodes.append(node)
                parents.append(index)
                if node.status.hasProcess, case .supervisor(let next)? = incarnation {
                    waiting.append((next, nodes.count - 1))
                }
            }
        }
        for index in nodes.indices.reversed() {
            nodes[index].children.reverse()
            if let parent = parents[index] { nodes[parent].children.append(nodes[index]) }
        }
        return nodes[0]
    }

    private func node() -> SupervisionTree {
        SupervisionTree(
            name: link.map { $0.owner.name(of: specification.name, $0.entry) } ?? specification.name,
            path: path,
            kind: specification.treeKind,
            status: .running,
            pid: Pid(process: process),
            age: nil,
            restarts: 0,
            lastExit: nil,
            abandoned: 0,
            children: []
        )
    }

    private func node(
        _ child: ChildSpecification,
        _ record: SupervisorCore.Record,
        _ incarnation: Incarnation?,
        _ childRecord: ChildRecord
    ) -> SupervisionTree {
        let status = SupervisionTree.Status(record, exit: incarnation?.pid.exitReason)
        let name = name(of: child.id, childRecord.entry)
        let kind: SupervisionTree.Kind =
            switch child.kind {
            case .supervisor(let specification): specification.treeKind
            case .actor(let body): .worker(type: String(describing: body.type))
            }
        return SupervisionTree(
            name: name,
            path: path(of: child.id, childRecord.entry),
            kind: kind,
            status: status,
            pid: status.hasProcess ? incarnation?.pid : nil,
            age: status == .running ? record.startedAt.map { environment.clock.now - $0 } : nil,
            restarts: record.restarts,
            lastExit: record.lastExit,
            abandoned: childRecord.extras.value?.abandoned ?? 0,
            children: []
        )
    }
}

extension Supervisor {
    /// The path and pid of every process in the tree, the root first.
    func processes() -> [(path: String, pid: Pid, isSupervisor: Bool)] {
        tree().nodes.compactMap { node in
            guard let pid = node.pid else { return nil }
            if case .supervisor = node.kind { return (node.path, pid, true) }
            return (node.path, pid, false)
        }
    }
}
