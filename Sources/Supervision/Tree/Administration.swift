/// A reply of the core, and the child that it refers to.
typealias AdministrationReply = (reply: SupervisorCore.Reply, child: AdministeredChild?)

struct AdministeredChild: Sendable {
    var slot: SupervisorCore.Slot
    var entry: UInt64
    var pid: Pid?
}

/// Why a change of a supervisor's children was refused (OTP's error atoms).
public enum AdministrationError: Error, Sendable, Equatable {
    /// The supervisor has not been started, is ending or has ended.
    case noProcess(supervisor: String)
    /// It has no child with this id.
    case notFound(child: String)
    /// A child with this id is running, as this process.
    case alreadyStarted(child: String, Pid?)
    /// A child with this id exists but is not running: restart or delete it.
    case alreadyPresent(child: String)
    /// The dynamic supervisor has reached `maximumChildren`, including children that are being restarted.
    case tooManyChildren(supervisor: String)
    /// The child is running: terminate it first.
    case running(child: String)
    /// The child is being restarted: terminate it first.
    case restarting(child: String)
    /// The child failed to start. A new child's specification was dropped; an existing child stays stopped.
    case startFailed(child: String, ExitReason)
    /// The calling task was cancelled while it waited. The requested change may still be made.
    case cancelled(child: String)
    /// The specification is invalid; the text says what to change.
    case invalidSpecification(String)
}

/// One child as `which_children` lists it.
public struct ChildInfo: Sendable {
    /// Its id among its siblings.
    public var id: String
    /// Its process; `nil` while it is stopped or being restarted.
    public var pid: Pid?
    /// What the child is doing.
    public var status: SupervisionTree.Status
    /// Whether it is a supervisor.
    public var isSupervisor: Bool
    /// When the child is restarted.
    public var restart: Restart
}

/// OTP's `count_children`.
public struct ChildCounts: Sendable, Hashable {
    /// All children, running or not.
    public var specifications: Int
    /// Those that have a process.
    public var active: Int
    /// All supervisors, running or not.
    public var supervisors: Int
    /// All others, running or not.
    public var workers: Int
}

extension SupervisorReference {
    /// Starts a child, as the last in the start order, and returns its process; `nil` when its start closure returned `nil`.
    ///
    /// Like every call that changes the children it waits, without a limit, for a start, stop or restart that is under way. A shutdown of
    /// the supervisor does not wait: the call then fails with ``AdministrationError/noProcess(supervisor:)``.
    @discardableResult
    public func startChild(_ child: Child) async throws(AdministrationError) -> Pid? {
        if let problem = child.specification.problemInTree(under: process.specification) {
            throw .invalidSpecification(problem)
        }
        let (reply, administered) = await process.administer(
            .startChild(child.specification),
            bringing: child.specification
        )
        return try check(reply, administered, child.id)
    }

    /// Stops a child without restarting it. The specification is kept, unless the child is temporary. Withdraws a pending restart. Does
    /// nothing when the child is stopped.
    public func terminateChild(_ id: String) async throws(AdministrationError) {
        let (reply, administered) = await process.administer(.terminateChild(id: id))
        _ = try check(reply, administered, id)
    }

    /// Starts a stopped child.
    @discardableResult
    public func restartChild(_ id: String) async throws(AdministrationError) -> Pid? {
        let (reply, administered) = await process.administer(.restartChild(id: id))
        return try check(reply, administered, id)
    }

    /// Removes a stopped child.
    public func deleteChild(_ id: String) async throws(AdministrationError) {
        let (reply, administered) = await process.administer(.deleteChild(id: id))
        _ = try check(reply, administered, id)
    }

    /// The children, the most recently started first, as OTP's `which_children` lists them. Returns immediately, even during a restart.
    public func whichChildren() -> [ChildInfo] {
        process.snapshot().reversed().map { child, record, incarnation, childRecord in
            let status = SupervisionTree.Status(record, exit: incarnation?.pid.exitReason)
            let isSupervisor = if case .supervisor = child.kind { true } else { false }
            return ChildInfo(
                id: process.name(of: child.id, childRecord.entry),
                pid: status.hasProcess ? incarnation?.pid : nil,
                status: status,
                isSupervisor: isSupervisor,
                restart: child.restart
            )
        }
    }

    /// The number of children. Returns immediately, even during a restart.
    public func countChildren() -> ChildCounts {
        var counts = ChildCounts(specifications: 0, active: 0, supervisors: 0, workers: 0)
        for (child, record, _, _) in process.snapshot() {
            counts.specifications += 1
            switch record.status {
            case .starting, .running, .stopping, .down: counts.active += 1
            case .stopped, .restarting: break
            }
            if case .supervisor = child.kind { counts.supervisors += 1 } else { counts.workers += 1 }
        }
        return counts
    }

    private func check(
        _ reply: SupervisorCore.Reply,
        _ administered: AdministeredChild?,
        _ id: String
    ) throws(AdministrationError) -> Pid? {
        try process.check(reply, id, administered?.pid)
        return administered?.pid
    }
}

extension SupervisorProcess {
    func check(_ reply: SupervisorCore.Reply, _ id: String, _ pid: Pid? = nil) throws(AdministrationError) {
        var child: String { path + "/" + id }
        switch reply {
        case .done, .ignored, .started: return
        case .alreadyStarted: throw .alreadyStarted(child: child, pid)
        case .alreadyPresent: throw .alreadyPresent(child: child)
        case .tooManyChildren: throw .tooManyChildren(supervisor: path)
        case .notFound: throw .notFound(child: child)
        case .running: throw .running(child: child)
        case .restarting: throw .restarting(child: child)
        case .startFailed(let reason): throw .startFailed(child: child, reason)
        case .noProcess: throw .noProcess(supervisor: path)
        case .cancelled: throw .cancelled(child: child)
        }
    }
}

extension Supervisor {
    /// The running incarnation, for administration: starts, terminates, restarts, deletes and counts children.
    ///
    /// - Throws: ``SupervisionError/notRunning(supervisor:)``.
    public func reference() throws(SupervisionError) -> SupervisorReference {
        guard let current else { throw .notRunning(supervisor: specification.name) }
        return SupervisorReference(process: current)
    }
}

extension SupervisorReference {
    /// The current incarnation of a child that is a supervisor.
    public func supervisor(_ id: String) throws(CallError) -> SupervisorReference {
        switch process.lookUp(id) {
        case .supervisor(let supervisor): return SupervisorReference(process: supervisor)
        case .restarting: throw .restarting(child: path + "/" + id)
        case .child, .none: throw .noProcess(child: path + "/" + id)
        }
    }
}
