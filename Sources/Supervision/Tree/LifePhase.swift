import Logging

/// A change in the life of one incarnation of a supervisor.
package enum LifePhase: Sendable {
    /// All children are running.
    case started(children: Int)
    /// It begins to stop its children, for this reason.
    case stopping(ExitReason)
    /// It has ended, or failed to start.
    case ended(ExitReason)
}

extension Supervisor {
    /// A copy of the supervisor that reports its life phases to `observe`, wherever it is placed, instead of logging them.
    ///
    /// - Parameter observe: Called with the logger of the tree. Must not block.
    package func observed(_ observe: @escaping @Sendable (LifePhase, Logger) -> Void) -> Supervisor {
        var specification = specification
        specification.onLife = observe
        return Supervisor(specification, logger: logger, clock: clock)
    }
}

extension Child {
    /// A copy of the child whose matching exits are reported elsewhere, and are logged at `debug` only.
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
