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

    init(
        restart: Restart = .permanent,
        shutdown: Shutdown = .timeout(.seconds(5)),
        significant isSignificant: Bool = false,
        backoff: Backoff? = nil,
        startTimeout: Duration? = nil,
        killTimeout: Duration = .seconds(1),
        onUnstoppable: OnUnstoppable = .abandon,
        reportWithin: Duration? = nil
    ) {
        self.restart = restart
        self.shutdown = shutdown
        self.isSignificant = isSignificant
        self.backoff = backoff
        self.startTimeout = startTimeout
        self.killTimeout = killTimeout
        self.onUnstoppable = onUnstoppable
        self.reportWithin = reportWithin
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
