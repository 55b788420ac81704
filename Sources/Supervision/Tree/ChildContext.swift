import Logging

/// What a start closure learns about the incarnation it makes.
public struct ChildContext: Sendable {
    let child: ChildProcess

    /// The child's id among its siblings.
    public var id: String { child.specification.id }

    /// Where it stands in the tree: the names from the root down, separated by `/`.
    public var path: String { child.path }

    /// The identity of this incarnation.
    public var pid: Pid { Pid(process: child.process) }

    /// How many incarnations there were before this one, under the same incarnation of its supervisor.
    public var incarnation: Int { child.incarnation }

    /// The tree's logger with the metadata `supervision.path` and `supervision.pid`.
    public var logger: Logger {
        var logger = child.owner.environment.logger
        logger[metadataKey: "supervision.path"] = "\(path)"
        logger[metadataKey: "supervision.pid"] = "\(pid)"
        return logger
    }

    /// The supervisor's wish that this incarnation ends.
    ///
    /// Taking it, at best in the start closure, makes the worker one that is asked and given time before it is cancelled.
    public var stopRequest: StopRequest { StopRequest(latch: child.stopLatch()) }

    /// Says that this incarnation is alive and well, for a child with a ``ChildOptions/heartbeatTimeout``.
    public func heartbeat() {
        child.heartbeat()
    }

    /// The supervisor that started this incarnation.
    public var supervisor: SupervisorReference { SupervisorReference(process: child.owner) }

    /// This child itself: a reference that stays valid when it is restarted, also for a child of a dynamic supervisor.
    ///
    /// It may be handed out from the start closure; calls through it fail with ``CallError/restarting(child:)`` until the
    /// closure has returned. The actor must not call itself through it from its own start closure.
    public func reference<A: Actor>(as type: A.Type = A.self) -> ChildReference<A> {
        ChildReference(address: child.address)
    }

    /// A sibling, by id: a stable reference that is resolved at each use, so that it may be taken before the sibling runs.
    public func reference<A: Actor>(_ id: String, as type: A.Type = A.self) -> ChildReference<A> {
        supervisor.child(id, as: type)
    }
}

/// One incarnation of a supervisor, as its children see it.
public struct SupervisorReference: Sendable {
    let process: SupervisorProcess

    /// The supervisor's id among its siblings.
    public var name: String { process.specification.name }

    /// Where it stands in the tree.
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

    /// A child, or with several names a descendant: a stable reference that is resolved at each use.
    public func child<A: Actor>(_ path: String..., as type: A.Type = A.self) -> ChildReference<A> {
        ChildReference(address: Address(anchor: .supervisor(process), names: path))
    }
}

extension SupervisorReference {
    /// Why this incarnation has ended or is about to: known from the moment it decides to, while its children still end.
    ///
    /// For what a child's end means to others: a channel that closes because the whole pool is stopped is no loss of its own.
    package var endingReason: ExitReason? { process.endingReason }
}
