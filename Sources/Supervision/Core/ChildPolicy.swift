/// How a supervisor treats a child, apart from its name and its code. Most children are treated in the same way, so that they
/// share one.
final class ChildPolicy: Sendable {
    let restart: Restart
    let options: ChildOptions
    /// Which ends are told elsewhere, so that nothing is logged of them above `debug`.
    let isTold: (@Sendable (ExitReason) -> Bool)?

    private init(clamped options: ChildOptions, restart: Restart, isTold: (@Sendable (ExitReason) -> Bool)?) {
        self.restart = restart
        self.options = options
        self.isTold = isTold
    }

    convenience init(restart: Restart = .permanent, options: ChildOptions) {
        self.init(clamped: options.clamped, restart: restart, isTold: nil)
    }

    /// The same, with ends that are told elsewhere.
    func withoutLogging(_ isTold: @escaping @Sendable (ExitReason) -> Bool) -> ChildPolicy {
        ChildPolicy(clamped: options, restart: restart, isTold: isTold)
    }

    /// What is wrong with these settings of the child `id`, if anything.
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

    /// A policy with these options: the one that all children share when they are the default.
    static func with(_ restart: Restart, _ options: ChildOptions) -> ChildPolicy {
        guard options == standardOptions else { return ChildPolicy(restart: restart, options: options) }
        return switch restart {
        case .permanent: permanent
        case .transient: transient
        case .temporary: temporary
        }
    }
}
