import Logging

/// The context that a start closure gets for the incarnation it creates.
public struct ChildContext: Sendable {
    let child: ChildProcess

    /// The child's id among its siblings.
    public var id: String { child.specification.id }

    /// The position in the tree: the names from the root down, separated by `/`.
    public var path: String { child.path }

    /// The identity of this incarnation.
    public var pid: Pid { Pid(process: child.process) }

    /// The number of incarnations before this one, under the same incarnation of the supervisor.
    public var incarnation: Int { child.incarnation }

    /// The tree's logger with the metadata `supervision.path` and `supervision.pid`.
    public var logger: Logger {
        var logger = child.owner.environment.logger
        logger[metadataKey: "supervision.path"] = "\(path)"
        logger[metadataKey: "supervision.pid"] = "\(pid)"
        return logger
    }

    /// The supervisor's request that this incarnation stop.
    ///
    /// A worker that takes it, preferably in the start closure, is asked to stop and given time before it is cancelled.
    public var stopRequest: StopRequest { StopRequest(latch: child.stopLatch()) }

    /// Reports that this incarnation is alive, for a child with a ``ChildOptions/heartbeatTimeout``.
    public func heartbeat() {
        child.heartbeat()
    }

    /// The supervisor that started this incarnation.
    public var supervisor: SupervisorReference { SupervisorReference(process: child.owner) }

    /// A reference to this child that stays valid across restarts, also for a child of a dynamic supervisor.
    ///
    /// The start closure may hand it out; calls through it fail with ``CallError/restarting(child:)`` until the closure has returned. The
    /// actor must not call itself through it from its own start closure.
    public func reference<A: Actor>(as type: A.Type = A.self) -> ChildReference<A> {
        ChildReference(address: child.address)
    }

    /// A stable reference to a sibling, by id. It is resolved at each use, so it can be taken before the sibling runs.
    public func reference<A: Actor>(_ id: String, as type: A.Type = A.self) -> ChildReference<A> {
        supervisor.child(id, as: type)
    }
}

/// One incarnation of a supervisor, as its children see it.
public struct SupervisorReference: Sendable {
    let process: SupervisorProcess

    /// The supervisor's id among its siblings.
    public var name: String { process.specification.name }

    /// The position in the tree.
    public var path: String { process.path }

    /// The identity of this incarnation.
    public var pid: Pid { Pid(process: process.process) }

    /// The supervisor above, `nil` for the root.
    public var parent: SupervisorReference? { process.parent.map(SupervisorReference.init) }

    /// The supervisor at the top of the tree.
    public var root: SupervisorReference {
        var current = process
        while let parent = current.parent { current = parent }
        return SupervisorReference(process: current)
    }

    /// A stable reference to a child, or with several names to a descendant. It is resolved at each use.
    public func child<A: Actor>(_ path: String..., as type: A.Type = A.self) -> ChildReference<A> {
        ChildReference(address: Address(anchor: .supervisor(process), names: path))
    }
}

extension SupervisorReference {
    /// Why this incarnation has ended or is shutting down: known from the moment of that decision, while its children are still ending.
    ///
    /// It lets a child tell a shutdown from a failure: a channel that closes because the whole pool is stopped is not reported as lost.
    package var endingReason: ExitReason? { process.endingReason }
}
