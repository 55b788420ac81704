import ConcurrencyPrimitives
import Logging

/// The log messages of a tree, with stable metadata keys; OTP's error contexts are in `supervision.context`.
///
/// | level | context | when |
/// |---|---|---|
/// | error | `shutdown` | a supervisor gave up |
/// | error | `child_terminated` | a child ended in a way that is reported (see ``Restart``) |
/// | error | `start_error` | a start failed |
/// | error | `shutdown_error` | a child did not end as it was asked to, or was abandoned |
/// | warning | `cooldown` | the intensity is exceeded and the supervisor pauses |
/// | info | `progress` | the tree started, is stopping, has stopped |
/// | debug | `progress` | a child was started, restarted or stopped |
///
/// A child that is restarted is logged in one line: what ended, why, the number of the restart, and its delay.
enum SupervisionLog {
    /// The level at which a report would be logged, so that a message that is not logged is not created.
    static func level(of report: SupervisorCore.Report) -> Logger.Level {
        switch report {
        case .started, .ignored, .restarting, .exited(_, expected: true), .stopped(_, expected: true): .debug
        case .coolingDown: .warning
        case .startFailed, .exited, .stopped, .gaveUp: .error
        }
    }

    /// Additional contents of a log line.
    struct Details {
        /// The number of the next restart, and its delay.
        var attempt: Int?
        var retryIn: Duration?
        /// Whether the exit is reported elsewhere.
        var isTold = false
    }

    static func write(_ event: SupervisionEvent, supervisor: String, _ details: Details, to logger: Logger) {
        var entry: (level: Logger.Level, context: String, message: String, reason: ExitReason?) =
            switch event.kind {
            case .started: (.debug, "progress", "child started", nil)
            case .ignored: (.debug, "progress", "child ignored", nil)
            case .startFailed(let reason): (.error, "start_error", "child failed to start", reason)
            case .exited(let reason, let expected):
                (expected ? .debug : .error, "child_terminated", "child ended", reason)
            case .stopped(let reason, let expected):
                (expected ? .debug : .error, expected ? "progress" : "shutdown_error", "child stopped", reason)
            case .restarting(let delay):
                (.debug, "progress", delay > .zero ? "restarting child in \(delay.text)" : "restarting child", nil)
            case .coolingDown(let pause, let reason):
                (.warning, "cooldown", "restart intensity exceeded, next restart in \(pause.text)", reason)
            case .gaveUp(let reason): (.error, "shutdown", "restart intensity exceeded, supervisor gives up", reason)
            case .abandoned: (.error, "shutdown_error", "child ignores its cancellation and is abandoned", nil)
            }
        if details.isTold { entry.level = .debug }
        guard entry.level >= logger.logLevel else { return }
        var metadata: Logger.Metadata = [
            "supervision.context": "\(entry.context)",
            "supervision.supervisor": "\(supervisor)",
            "supervision.path": "\(event.path)",
        ]
        if let pid = event.pid { metadata["supervision.pid"] = "\(pid)" }
        if let reason = entry.reason { metadata["supervision.reason"] = "\(reason)" }
        if let attempt = details.attempt { metadata["supervision.restart"] = "\(attempt)" }
        if let delay = details.retryIn { metadata["supervision.retry-in"] = "\(delay.text)" }
        logger.log(level: entry.level, "\(entry.message)", metadata: metadata)
    }

    /// Logs a phase of the whole tree.
    static func write(_ phase: LifePhase, supervisor: String, abandoned: Int, to logger: Logger) {
        guard .info >= logger.logLevel else { return }
        var metadata: Logger.Metadata = ["supervision.context": "progress", "supervision.supervisor": "\(supervisor)"]
        let message: Logger.Message
        switch phase {
        case .started(let children):
            message = "tree started"
            metadata["supervision.children"] = "\(children)"
        case .stopping(let reason):
            message = "tree stopping"
            metadata["supervision.reason"] = "\(reason)"
        case .ended(let reason):
            message = "tree stopped"
            metadata["supervision.reason"] = "\(reason)"
            if abandoned > 0 { metadata["supervision.abandoned"] = "\(abandoned)" }
        }
        logger.info(message, metadata: metadata)
    }
}
