/// How a supervisor treats a child: everything in its specification but the id and the start closure. Most children use the default options
/// and share one instance.
final class ChildPolicy: Sendable {
    let restart: Restart
    let options: ChildOptions
    /// Which exits are reported elsewhere, so that the log has them at `debug` only.
    let isTold: (@Sendable (ExitReason) -> Bool)?

    private init(clamped options: ChildOptions, restart: Restart, isTold: (@Sendable (ExitReason) -> Bool)?) {
        self.restart = restart
        self.options = options
        self.isTold = isTold
    }

    convenience init(restart: Restart = .permanent, options: ChildOptions) {
        self.init(clamped: options.clamped, restart: restart, isTold: nil)
    }

    /// A copy of the policy that logs the matching exits at `debug` only.
    func withoutLogging(_ isTold: @escaping @Sendable (ExitReason) -> Bool) -> ChildPolicy {
        ChildPolicy(clamped: options, restart: restart, isTold: isTold)
    }

    /// The first problem with these settings of the child `id`, `nil` if they are valid.
    func problem(of id: String) -> String? {
        if options.significant, !restart.isEndInOrder {
            return
                "'\(id)' is significant and permanent: a permanent child never ends for good, make it transient or temporary"
        }
        if case .timeout(let timeout) = options.shutdown, timeout < .zero {
            return "the shutdown timeout of '\(id)' must not be negative, but is \(timeout)"
        }
        if let startTimeout = options.startTimeout, startTimeout <= .zero {
            return "startTimeout of '\(id)' must be longer than zero, but is \(startTimeout)"
        }
        if options.killTimeout < .zero {
            return "killTimeout of '\(id)' must not be negative, but is \(options.killTimeout)"
        }
        if let heartbeatTimeout = options.heartbeatTimeout, heartbeatTimeout <= .zero {
            return "heartbeatTimeout of '\(id)' must be longer than zero, but is \(heartbeatTimeout)"
        }
        if let problem = options.backoff?.problem { return "'\(id)': \(problem)" }
        return nil
    }

    private static let standardOptions = ChildOptions()
    private static let permanent = ChildPolicy(restart: .permanent, options: standardOptions)
    private static let transient = ChildPolicy(restart: .transient, options: standardOptions)
    private static let temporary = ChildPolicy(restart: .temporary, options: standardOptions)

    /// The policy with these options; with the default options, a shared instance.
    static func with(_ restart: Restart, _ options: ChildOptions) -> ChildPolicy {
        guard options == standardOptions else { return ChildPolicy(restart: restart, options: options) }
        return switch restart {
        case .permanent: permanent
        case .transient: transient
        case .temporary: temporary
        }
    }
}
