/// What a supervisor reports when it cannot start, gives up or ends without having been asked to.
public indirect enum SupervisionError: Error, Sendable, Equatable {
    /// The description of the tree is wrong; nothing was started. The text says what to change.
    case invalidSpecification(String)
    /// A child could not be started while the tree was coming up. What had been started before it was stopped, in reverse
    /// order. `child` is its path; `reason` holds the cause, which for a nested supervisor is again this error.
    case failedToStart(child: String, reason: ExitReason)
    /// A supervisor gave up: more restarts than its intensity allows. `lastReason` is why `child` ended the last time.
    case intensityExceeded(supervisor: String, child: String, lastReason: ExitReason)
    /// The tree ended for this reason although nobody had asked it to.
    case exited(ExitReason)
    /// The supervisor has not been started, or has ended.
    case notRunning(supervisor: String)
    /// `start()` was called on a supervisor that is starting or running.
    case alreadyStarted(supervisor: String)
    /// `start()` or `run()` was called on a supervisor that is a part of another's tree, which starts it. Start that tree; or
    /// describe this one anew, to run it on its own.
    case partOfAnotherTree(supervisor: String)
    /// The start closure did not return within the child's start timeout.
    case startTimedOut(child: String, after: Duration)
    /// The child has not said that it is alive for this long, and was killed.
    case unresponsive(child: String, after: Duration)
    /// The child did not end although it was cancelled, and its specification asks to give up the supervisor then.
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
            "supervisor '\(supervisor)' is a part of another's tree, which starts it: start that, or describe this one anew"
        case .startTimedOut(let child, let after): "'\(child)' did not finish starting within \(after)"
        case .unresponsive(let child, let after): "'\(child)' has not reported for \(after)"
        case .unstoppable(let child): "'\(child)' ignores its cancellation"
        }
    }
}

/// Why a call through a ``ChildReference`` has no result.
public enum CallError: Error, Sendable, Equatable {
    /// There is no such child, or it is stopped and will not come back by itself. The body did not run.
    case noProcess(child: String)
    /// The child is being started again. The body did not run: calling again in a moment is safe.
    case restarting(child: String)
    /// The incarnation that was called ended with this reason. The body may have run in part; its result was dropped.
    case exited(child: String, ExitReason)
    /// The deadline passed. The body may still be running; its task was cancelled and its result will be dropped.
    case timeout(child: String, after: Duration)
    /// The child had to be started for the call, and that failed. The body did not run.
    case startFailed(child: String, ExitReason)
    /// The child had to be started for the call, and there are as many as may be. The body did not run.
    case tooManyProcesses(child: String, limit: Int)
    /// The child is not an actor of the type asked for. The body did not run.
    case wrongType(child: String, expected: String, actual: String)

    /// Whether the body certainly did not run, so that calling again cannot do its work twice.
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
            "'\(child)' cannot be started: there are \(limit) processes already, and none that may be ended"
        case .wrongType(let child, let expected, let actual): "'\(child)' is of type \(actual), not \(expected)"
        }
    }
}
