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

/// When a child that has ended is restarted.
public enum Restart: Sendable, Hashable {
    /// Always, whatever the reason.
    case permanent
    /// Only after an abnormal exit: ``ExitReason/killed`` or ``ExitReason/crashed(_:)``.
    case transient
    /// Never. Its specification is removed when it ends.
    case temporary
}

/// How a supervisor stops a child.
public enum Shutdown: Sendable, Hashable {
    /// Calls `Task.cancel()` and the kill hook immediately.
    case brutalKill
    /// Asks; cancels after this time; abandons after the child's kill timeout.
    case timeout(Duration)
    /// Asks, and waits without a limit. OTP's choice for supervisors.
    case infinity
}

/// What a supervisor does when its restart intensity is exceeded.
public enum WhenExceeded: Sendable, Hashable {
    /// End with ``SupervisionError/intensityExceeded(supervisor:child:lastReason:)`` as the cause, so that the parent
    /// decides (OTP).
    case escalate
    /// Keep running. The failed child is retried after this time, with the restart count reset (RabbitMQ's `supervisor2`).
    case cooldown(Duration)
}

/// What happens when a child ignores its cancellation and has to be left behind. Its incarnation is always fenced off.
public enum OnUnstoppable: Sendable, Hashable {
    /// Report it, list it in ``Supervisor/abandonedChildren``, and continue as if it had ended.
    case abandon
    /// The same, and the supervisor ends with ``SupervisionError/unstoppable(child:)``, so that a larger part of the tree is restarted.
    case escalate
    /// Write a report to standard error and end the OS process with `abort()`, so that whatever supervises the OS process restarts it. This
    /// is the only place where the library ends the OS process.
    case crashProcess
}

/// Whether a supervisor shuts down when its significant children have ended by themselves (OTP 24's automatic shutdown).
public enum AutoShutdown: Sendable, Hashable {
    /// Never: only its own supervisor stops it.
    case never
    /// As soon as one significant child has ended and is not restarted.
    case anySignificant
    /// When the last significant child has ended.
    case allSignificant
}

extension Shutdown {
    /// The shutdown with its timeout clamped to a range that arithmetic cannot overflow.
    var clamped: Shutdown {
        switch self {
        case .timeout(let timeout): .timeout(timeout.clamped)
        case .brutalKill, .infinity: self
        }
    }
}

extension Restart {
    /// Whether a child that ended with this reason is restarted (OTP's `do_restart/3`, in its order of clauses).
    package func restarts(after reason: ExitReason) -> Bool {
        switch self {
        case .permanent: true
        case .transient: reason.isAbnormal
        case .temporary: false
        }
    }

    /// Whether an exit with this reason is reported: always for a permanent child, otherwise when it is abnormal.
    func reports(_ reason: ExitReason) -> Bool { reason.isAbnormal || !isEndInOrder }

    /// Whether a child may end by itself without that being a fault. False for a permanent child.
    var isEndInOrder: Bool {
        switch self {
        case .permanent: false
        case .transient, .temporary: true
        }
    }

    /// Whether the specification of a child that has ended is kept, so that it can be started again.
    package var keepsSpecification: Bool {
        switch self {
        case .permanent, .transient: true
        case .temporary: false
        }
    }
}

extension Shutdown {
    /// Whether the child is killed without being asked first.
    var isKill: Bool {
        switch self {
        case .brutalKill: true
        case .timeout, .infinity: false
        }
    }
}

extension AutoShutdown {
    /// Whether the supervisor acts on the end of significant children.
    var observesChildren: Bool {
        switch self {
        case .never: false
        case .anySignificant, .allSignificant: true
        }
    }
}
