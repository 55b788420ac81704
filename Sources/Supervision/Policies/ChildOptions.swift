import ConcurrencyPrimitives

/// How a child is stopped, restarted and monitored: the rest of OTP's child specification next to ``Restart``, and what Swift needs in
/// addition.
///
///     Child("importer", options: ChildOptions(shutdown: .timeout(.seconds(30)), backoff: Backoff())) { context in
///         Importer(context)
///     }
///
/// Invalid settings are rejected when the child's tree, or the child, is started: with ``SupervisionError/invalidSpecification(_:)``, or
/// with ``AdministrationError/invalidSpecification(_:)`` in a running tree.
public struct ChildOptions: Sendable, Hashable {
    /// How it is stopped. Five seconds by default, as in OTP; a timeout must not be negative.
    public var shutdown: Shutdown
    /// Whether its end counts for the supervisor's ``AutoShutdown``. Invalid for a permanent child, which never ends for good.
    public var significant: Bool
    /// How long to wait before each restart; `nil` restarts at once, as OTP does.
    public var backoff: Backoff?
    /// The time limit for the start closure, more than zero; `nil` for no limit, as in OTP. If the closure returns later, the incarnation
    /// is ended immediately.
    public var startTimeout: Duration?
    /// How long a cancelled or killed incarnation and its kill hook may take before it is abandoned. One second by default; zero abandons
    /// it immediately.
    public var killTimeout: Duration
    /// What happens when an incarnation has to be abandoned.
    public var onUnstoppable: OnUnstoppable
    /// The maximum time between two calls of ``ChildContext/heartbeat()``, more than zero: a child that exceeds it is ended with
    /// ``SupervisionError/unresponsive(child:after:)``. `nil` for no heartbeat.
    public var heartbeatTimeout: Duration?

    /// Creates options. Each is described at its property.
    public init(
        shutdown: Shutdown = .timeout(.seconds(5)),
        significant: Bool = false,
        backoff: Backoff? = nil,
        startTimeout: Duration? = nil,
        killTimeout: Duration = .seconds(1),
        onUnstoppable: OnUnstoppable = .abandon,
        heartbeatTimeout: Duration? = nil
    ) {
        self.shutdown = shutdown
        self.significant = significant
        self.backoff = backoff
        self.startTimeout = startTimeout
        self.killTimeout = killTimeout
        self.onUnstoppable = onUnstoppable
        self.heartbeatTimeout = heartbeatTimeout
    }

    /// The options with durations clamped to a range that arithmetic cannot overflow.
    var clamped: ChildOptions {
        ChildOptions(
            shutdown: shutdown.clamped,
            significant: significant,
            backoff: backoff,
            startTimeout: startTimeout?.clamped,
            killTimeout: killTimeout.clamped,
            onUnstoppable: onUnstoppable,
            heartbeatTimeout: heartbeatTimeout?.clamped
        )
    }
}
