/// A tree as it was at one moment.
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

    /// What a node was doing.
    public enum Status: String, Sendable, Hashable {
        /// Its start closure had not returned.
        case starting
        /// It was alive.
        case running
        /// It had been told to end.
        case stopping
        /// It was waiting to be started again.
        case restarting
        /// There was no process.
        case stopped
    }

    /// The id among the siblings.
    public var name: String
    /// The names from the root down, separated by `/`.
    public var path: String
    /// Supervisor or worker.
    public var kind: Kind
    /// What it was doing.
    public var status: Status
    /// The incarnation, `nil` when there was none.
    public var pid: Pid?
    /// How often it was started again, under the same incarnation of its supervisor.
    public var restarts: Int
    /// Why the incarnation before ended, `nil` when there was none.
    public var lastExit: ExitReason?
    /// Tasks of earlier incarnations that ignored their cancellation, as far as known.
    public var abandoned: Int
    /// In start order.
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
    /// The tree as text, one node a line.
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
        switch kind {
        case .supervisor(.oneForOne): parts.append("one_for_one")
        case .supervisor(.oneForAll): parts.append("one_for_all")
        case .supervisor(.restForOne): parts.append("rest_for_one")
        case .dynamicSupervisor: parts.append("dynamic, children: \(children.count)")
        case .worker(let type): parts.append(type)
        }
        if let pid { parts.append("\(pid)") }
        if status != .running { parts.append(status.rawValue) }
        if restarts > 0 { parts.append("restarts: \(restarts)") }
        if let lastExit { parts.append("last exit: \(lastExit)") }
        if abandoned > 0 { parts.append("abandoned: \(abandoned)") }
        return parts.joined(separator: "  ")
    }
}

extension SupervisionTree.Status {
    init(_ record: SupervisorCore.Record, isAlive: Bool) {
        self =
            switch record.status {
            case .stopped: .stopped
            case .starting: .starting
            case .running: isAlive ? .running : .restarting
            case .stopping: .stopping
            case .down, .restarting: .restarting
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
    func tree(restarts: Int = 0, lastExit: ExitReason? = nil, status: SupervisionTree.Status = .running)
        -> SupervisionTree
    {
        SupervisionTree(
            name: link.map { $0.owner.name(of: specification.name, $0.generation) } ?? specification.name,
            path: path,
            kind: specification.treeKind,
            status: status,
            pid: Pid(process: process),
            restarts: restarts,
            lastExit: lastExit,
            abandoned: 0,
            children: snapshot().map { node($0, $1, $2, $3) }
        )
    }

    private func node(
        _ child: Child,
        _ record: SupervisorCore.Record,
        _ incarnation: Incarnation?,
        _ abandoned: Int
    ) -> SupervisionTree {
        let status = SupervisionTree.Status(record, isAlive: incarnation?.pid.isAlive ?? false)
        let name = name(of: child.id, record.generation)
        let isUp = status.hasProcess
        switch (child.kind, incarnation) {
        case (_, .supervisor(let supervisor)?) where isUp:
            return supervisor.tree(restarts: record.restarts, lastExit: record.lastExit, status: status)
        case (.supervisor(let specification), _):
            return SupervisionTree(
                name: name,
                path: path + "/" + name,
                kind: specification.treeKind,
                status: status,
                pid: nil,
                restarts: record.restarts,
                lastExit: record.lastExit,
                abandoned: abandoned,
                children: []
            )
        case (.actor(let body), _):
            return SupervisionTree(
                name: name,
                path: path + "/" + name,
                kind: .worker(type: body.type),
                status: status,
                pid: isUp ? incarnation?.pid : nil,
                restarts: record.restarts,
                lastExit: record.lastExit,
                abandoned: abandoned,
                children: []
            )
        }
    }
}
