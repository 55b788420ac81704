import ConcurrencyPrimitives

/// How a child is stopped, restarted and watched, apart from when it is restarted (``Restart``): the rest of OTP's child
/// specification, and what Swift needs beyond it.
///
///     Child("importer", options: ChildOptions(shutdown: .timeout(.seconds(30)), backoff: Backoff())) { context in
///         Importer(context)
///     }
///
/// Settings that make no sense are refused when the child's tree, or the child, is started: with
/// ``SupervisionError/invalidSpecification(_:)``, or with ``AdministrationError/invalidSpecification(_:)`` in a running tree.
public struct ChildOptions: Sendable, Hashable {
    /// How it is stopped. Five seconds by default, as in OTP; a timeout must not be negative.
    public var shutdown: Shutdown
    /// Whether its end counts for the supervisor's ``AutoShutdown``. Not for a permanent child, which never ends for good.
    public var significant: Bool
    /// How long to wait before each restart; `nil` restarts at once, as OTP does.
    public var backoff: Backoff?
    /// How long the start closure may take, more than zero; `nil` for any time, as in OTP. A closure that returns later is ended
    /// at once.
    public var startTimeout: Duration?
    /// How long a cancelled or killed incarnation and its kill hook may take before it is abandoned. One second by default; zero
    /// abandons it at once.
    public var killTimeout: Duration
    /// What happens when it has to be abandoned.
    public var onUnstoppable: OnUnstoppable
    /// How often the child has to call ``ChildContext/heartbeat()`` at least, more than zero: one that does not is ended with
    /// ``SupervisionError/unresponsive(child:after:)``. `nil` for never.
    public var heartbeatTimeout: Duration?

    /// The options of a child. Each is described at its property.
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

    /// With durations that can be computed with.
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
