/// Why a supervisor could not start, gave up, or ended without having been asked to.
public indirect enum SupervisionError: Error, Sendable, Equatable {
    /// The description of the tree is invalid; nothing was started. The text says what to change.
    case invalidSpecification(String)
    /// A child failed to start while the tree was booting. The children started before it were stopped, in reverse order. `child` is its
    /// path; `reason` holds the cause, which for a nested supervisor is another `failedToStart`.
    case failedToStart(child: String, reason: ExitReason)
    /// A supervisor gave up because its intensity was exceeded. `lastReason` is why `child` ended last.
    case intensityExceeded(supervisor: String, child: String, lastReason: ExitReason)
    /// The tree ended for this reason without having been asked to.
    case exited(ExitReason)
    /// The supervisor has not been started, or has ended.
    case notRunning(supervisor: String)
    /// `start()` was called on a supervisor that is starting or running.
    case alreadyStarted(supervisor: String)
    /// `start()` or `run()` was called on a supervisor that belongs to another supervisor's tree, which starts it. Start that tree, or
    /// describe this supervisor again to run it on its own.
    case partOfAnotherTree(supervisor: String)
    /// The start closure did not return within the child's start timeout.
    case startTimedOut(child: String, after: Duration)
    /// The child sent no heartbeat for this long, and was killed.
    case unresponsive(child: String, after: Duration)
    /// The child did not end after it was cancelled, and its specification escalates that (``OnUnstoppable/escalate``).
    case unstoppable(child: String)
}

extension SupervisionError: CustomStringConvertible {
    /// The error as a sentence.
    public var description: String {
        switch self {
        case .invalidSpecification(let what): "invalid specification: \(what)"
        case .failedToStart(let child, let reason): "'\(child)' failed to start (\(reason))"
        case .intensityExceeded(let supervisor, let child, let reason):
            "supervisor '\(supervisor)' gave up: restart intensity exceeded by '\(child)' (last exit: \(reason))"
        case .exited(let reason): "the supervision tree ended (\(reason))"
        case .notRunning(let supervisor): "supervisor '\(supervisor)' is not running: call start() or run() first"
        case .alreadyStarted(let supervisor): "supervisor '\(supervisor)' has already been started"
        case .partOfAnotherTree(let supervisor):
            "supervisor '\(supervisor)' belongs to another tree, which starts it: start that tree, or describe this supervisor again"
        case .startTimedOut(let child, let after): "'\(child)' did not finish starting within \(after)"
        case .unresponsive(let child, let after): "'\(child)' sent no heartbeat for \(after)"
        case .unstoppable(let child): "'\(child)' ignores its cancellation"
        }
    }
}

/// Why a call through a ``ChildReference`` has no result.
public enum CallError: Error, Sendable, Equatable {
    /// There is no such child, or it is stopped and will not be restarted by itself. The body did not run.
    case noProcess(child: String)
    /// The child is being restarted. The body did not run: calling again later is safe.
    case restarting(child: String)
    /// The incarnation that was called ended with this reason. The body may have run partially; its result was dropped.
    case exited(child: String, ExitReason)
    /// The deadline passed. The body may still be running; its task was cancelled and its result will be dropped.
    case timeout(child: String, after: Duration)
    /// The child had to be started for the call, and the start failed. The body did not run.
    case startFailed(child: String, ExitReason)
    /// The child had to be started for the call, and the limit of processes is reached. The body did not run.
    case tooManyProcesses(child: String, limit: Int)
    /// The child is not an actor of the type asked for. The body did not run.
    case wrongType(child: String, expected: String, actual: String)

    /// Whether the body is guaranteed not to have run, so that calling again cannot do its work twice.
    public var isRetrySafe: Bool {
        switch self {
        case .noProcess, .restarting, .startFailed, .tooManyProcesses, .wrongType: true
        case .exited, .timeout: false
        }
    }
}

extension CallError: CustomStringConvertible {
    /// The error as a sentence.
    public var description: String {
        switch self {
        case .noProcess(let child): "there is no process '\(child)'"
        case .restarting(let child): "'\(child)' is being restarted"
        case .exited(let child, let reason): "'\(child)' ended during the call (\(reason))"
        case .timeout(let child, let after): "'\(child)' did not answer within \(after)"
        case .startFailed(let child, let reason): "'\(child)' could not be started (\(reason))"
        case .tooManyProcesses(let child, let limit):
            "'\(child)' cannot be started: the limit of \(limit) processes is reached, and none of them can be ended"
        case .wrongType(let child, let expected, let actual): "'\(child)' is of type \(actual), not \(expected)"
        }
    }
}
