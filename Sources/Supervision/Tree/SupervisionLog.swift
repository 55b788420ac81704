import Logging

/// What a tree logs, with stable metadata keys: OTP's error contexts as `supervision.context`.
///
/// | level | context | when |
/// |---|---|---|
/// | error | `shutdown` | a supervisor gave up |
/// | error | `child_terminated` | a child ended in a way that is reported (see ``Restart``) |
/// | error | `start_error` | a start failed |
/// | error | `shutdown_error` | a child did not end as it was asked to, or was abandoned |
/// | warning | `cooldown` | the intensity is exceeded and the supervisor pauses |
/// | debug | `progress` | a child was started, restarted or stopped |
enum SupervisionLog {
    /// The level at which a report would be logged, so that nothing is made that nobody reads.
    static func level(of report: SupervisorCore.Report) -> Logger.Level {
        switch report {
        case .started, .ignored, .restarting, .exited(_, expected: true), .stopped(_, expected: true): .debug
        case .coolingDown: .warning
        case .startFailed, .exited, .stopped, .gaveUp: .error
        }
    }

    static func write(_ event: SupervisionEvent, supervisor: String, to logger: Logger) {
        let entry: (level: Logger.Level, context: String, message: String, reason: ExitReason?) =
            switch event.kind {
            case .started: (.debug, "progress", "child started", nil)
            case .ignored: (.debug, "progress", "child ignored", nil)
            case .startFailed(let reason): (.error, "start_error", "child failed to start", reason)
            case .exited(let reason, let expected):
                (expected ? .debug : .error, "child_terminated", "child ended", reason)
            case .stopped(let reason, let expected):
                (expected ? .debug : .error, expected ? "progress" : "shutdown_error", "child stopped", reason)
            case .restarting(let delay):
                (.debug, "progress", delay > .zero ? "restarting child in \(delay)" : "restarting child", nil)
            case .coolingDown(let pause, let reason):
                (.warning, "cooldown", "restart intensity exceeded, next restart in \(pause)", reason)
            case .gaveUp(let reason): (.error, "shutdown", "restart intensity exceeded, supervisor gives up", reason)
            case .abandoned: (.error, "shutdown_error", "child ignores its cancellation and is abandoned", nil)
            }
        guard entry.level >= logger.logLevel else { return }
        var metadata: Logger.Metadata = [
            "supervision.context": "\(entry.context)",
            "supervision.supervisor": "\(supervisor)",
            "supervision.path": "\(event.path)",
        ]
        if let pid = event.pid { metadata["supervision.pid"] = "\(pid)" }
        if let reason = entry.reason { metadata["supervision.reason"] = "\(reason)" }
        logger.log(level: entry.level, "\(entry.message)", metadata: metadata)
    }
}
