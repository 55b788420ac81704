import ConcurrencyPrimitives

/// How a supervisor treats a child, apart from its name and its code. Most children are treated in the same way, so that they
/// share one.
final class ChildPolicy: Sendable {
    let restart: Restart
    let shutdown: Shutdown
    let isSignificant: Bool
    let backoff: Backoff?
    let startTimeout: Duration?
    let killTimeout: Duration
    let onUnstoppable: OnUnstoppable
    let reportWithin: Duration?
    /// Which ends are told elsewhere, so that nothing is logged of them above `debug`.
    let isTold: (@Sendable (ExitReason) -> Bool)?

    init(
        restart: Restart = .permanent,
        shutdown: Shutdown = .timeout(.seconds(5)),
        significant isSignificant: Bool = false,
        backoff: Backoff? = nil,
        startTimeout: Duration? = nil,
        killTimeout: Duration = .seconds(1),
        onUnstoppable: OnUnstoppable = .abandon,
        reportWithin: Duration? = nil,
        isTold: (@Sendable (ExitReason) -> Bool)? = nil
    ) {
        self.restart = restart
        self.shutdown = shutdown.clamped
        self.isSignificant = isSignificant
        self.backoff = backoff
        self.startTimeout = startTimeout?.clamped
        self.killTimeout = killTimeout.clamped
        self.onUnstoppable = onUnstoppable
        self.reportWithin = reportWithin?.clamped
        self.isTold = isTold
    }

    /// The same, with ends that are told elsewhere.
    func withoutLogging(_ isTold: @escaping @Sendable (ExitReason) -> Bool) -> ChildPolicy {
        ChildPolicy(
            restart: restart,
            shutdown: shutdown,
            significant: isSignificant,
            backoff: backoff,
            startTimeout: startTimeout,
            killTimeout: killTimeout,
            onUnstoppable: onUnstoppable,
            reportWithin: reportWithin,
            isTold: isTold
        )
    }

    /// What is wrong with these settings of the child `id`, if anything.
    func problem(of id: String) -> String? {
        if isSignificant, !restart.isEndInOrder {
            return
                "'\(id)' is significant and permanent: a permanent child never ends for good, make it transient or temporary"
        }
        if case .timeout(let timeout) = shutdown, timeout < .zero {
            return "the shutdown timeout of '\(id)' must not be negative, but is \(timeout)"
        }
        if let startTimeout, startTimeout <= .zero {
            return "startTimeout of '\(id)' must be longer than zero, but is \(startTimeout)"
        }
        if killTimeout < .zero { return "killTimeout of '\(id)' must not be negative, but is \(killTimeout)" }
        if let reportWithin, reportWithin <= .zero {
            return "reportWithin of '\(id)' must be longer than zero, but is \(reportWithin)"
        }
        if let problem = backoff?.problem { return "'\(id)': \(problem)" }
        return nil
    }

    private static let permanent = ChildPolicy(restart: .permanent)
    private static let transient = ChildPolicy(restart: .transient)
    private static let temporary = ChildPolicy(restart: .temporary)

    /// The policy with the default of everything else, which all children share.
    static func standard(_ restart: Restart) -> ChildPolicy {
        switch restart {
        case .permanent: permanent
        case .transient: transient
        case .temporary: temporary
        }
    }
}
