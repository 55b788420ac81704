import Logging

/// What becomes of one incarnation of a supervisor, told as it happens.
package enum LifePhase: Sendable {
    /// All children are up.
    case started(children: Int)
    /// It begins to stop its children, for this reason.
    case stopping(ExitReason)
    /// It has ended, or could not start.
    case ended(ExitReason)
}

extension Supervisor {
    /// The same supervisor, which tells what becomes of it, wherever it is put. Then it logs nothing of that itself.
    ///
    /// - Parameter observe: Called with the logger of the tree. Must not block.
    package func observed(_ observe: @escaping @Sendable (LifePhase, Logger) -> Void) -> Supervisor {
        var specification = specification
        specification.onLife = observe
        return Supervisor(specification, logger: logger, clock: clock)
    }
}

extension Child {
    /// The same child, some of whose ends are told by whoever made it, and need no line in the log above `debug`.
    package func withoutLogging(_ isTold: @escaping @Sendable (ExitReason) -> Bool) -> Child {
        Child(
            ChildSpecification(
                id: specification.id,
                policy: specification.policy.withoutLogging(isTold),
                kind: specification.kind
            )
        )
    }
}

extension SupervisorReference {
    /// The tree's logger, without the metadata of a child.
    package var logger: Logger { process.environment.logger }
}
