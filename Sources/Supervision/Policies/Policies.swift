import ConcurrencyPrimitives

/// Which siblings are restarted together with a failed child.
public enum Strategy: Sendable, Hashable {
    /// Only the child that failed.
    case oneForOne
    /// All children: the others are stopped in reverse start order, then all are started in start order.
    case oneForAll
    /// The child that failed and those started after it.
    case restForOne
}

/// When a child that ended is started again.
public enum Restart: Sendable, Hashable {
    /// Always, whatever the reason.
    case permanent
    /// Only after an abnormal exit: ``ExitReason/killed`` or ``ExitReason/crashed(_:)``.
    case transient
    /// Never. Its specification is forgotten when it ends.
    case temporary
}

/// How a supervisor stops a child: the rungs of a ladder, from a request to abandoning it.
public enum Shutdown: Sendable, Hashable {
    /// `Task.cancel()` and the kill hook at once.
    case brutalKill
    /// Ask; after this time cancel; after the child's kill timeout abandon it.
    case timeout(Duration)
    /// Ask, and wait for as long as it takes. OTP's choice for supervisors.
    case infinity
}

/// What a supervisor does when its restart intensity is exceeded.
public enum WhenExceeded: Sendable, Hashable {
    /// End with ``SupervisionError/intensityExceeded(supervisor:child:lastReason:)`` as the cause, so that the parent
    /// decides (OTP).
    case escalate
    /// Stay. The failed child is tried again after this time, with the restart count reset (RabbitMQ's `supervisor2`).
    case cooldown(Duration)
}

/// What happens when a child ignores its cancellation and has to be left behind. Its incarnation is fenced off in every case.
public enum OnUnstoppable: Sendable, Hashable {
    /// Report it, list it among ``Supervisor/abandonedChildren``, and go on as if it had ended.
    case abandon
    /// The same, and the supervisor ends with ``SupervisionError/unstoppable(child:)``, so that a larger part is started anew.
    case escalate
    /// Write a report to standard error and end the OS process with `abort()`, so that whatever supervises that starts it
    /// anew: the only place where this library ends the OS process.
    case crashProcess
}

/// Whether a supervisor ends when its significant children have ended by themselves (OTP 24's automatic shutdown).
public enum AutoShutdown: Sendable, Hashable {
    /// Never: only its own supervisor ends it.
    case never
    /// As soon as one significant child has ended and is not to be restarted.
    case anySignificant
    /// When no significant child is left.
    case allSignificant
}

extension Shutdown {
    /// With a timeout that can be computed with.
    var clamped: Shutdown {
        switch self {
        case .timeout(let timeout): .timeout(timeout.clamped)
        case .brutalKill, .infinity: self
        }
    }
}

extension Restart {
    /// Whether a child that ended with this reason is started again (OTP's `do_restart/3`, in its order of clauses).
    package func restarts(after reason: ExitReason) -> Bool {
        switch self {
        case .permanent: true
        case .transient: reason.isAbnormal
        case .temporary: false
        }
    }

    /// Whether an exit with this reason is worth a report: always for a permanent child, else when it is abnormal.
    func reports(_ reason: ExitReason) -> Bool { reason.isAbnormal || !isEndInOrder }

    /// Whether a child may end by itself in order. Not a permanent one, which always is to be there.
    var isEndInOrder: Bool {
        switch self {
        case .permanent: false
        case .transient, .temporary: true
        }
    }

    /// Whether a child that has ended is remembered, so that it can be started again.
    package var keepsSpecification: Bool {
        switch self {
        case .permanent, .transient: true
        case .temporary: false
        }
    }
}

extension Shutdown {
    /// Whether the child is killed at once, without being asked.
    var isKill: Bool {
        switch self {
        case .brutalKill: true
        case .timeout, .infinity: false
        }
    }
}

extension AutoShutdown {
    /// Whether significant children have a meaning.
    var observesChildren: Bool {
        switch self {
        case .never: false
        case .anySignificant, .allSignificant: true
        }
    }
}
