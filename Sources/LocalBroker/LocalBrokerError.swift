/// Why an operation of a ``LocalBroker`` failed.
///
/// No case contains a credential. A request that failed with ``requestTimedOut(command:after:)`` may have been carried out; after every
/// other error nothing was changed on the broker.
public enum LocalBrokerError: Error, Sendable, Equatable {
    /// RabbitMQ is not installed, or not in a known location. The description names the package to install.
    case notInstalled(searched: [String])
    /// An option is invalid. Nothing was started.
    case invalidOption(name: String, reason: String)
    /// A file or folder of the node could not be created.
    case cannotPrepare(path: String, reason: String)
    /// The operating system refused to start a process.
    case cannotSpawn(executable: String, reason: String)
    /// No loopback port was free, or another process took the chosen one while the node was starting or stopped.
    case portInUse(Int)
    /// The node ended before it was ready. `log` is the end of its output.
    case startFailed(ExitStatus, log: String)
    /// The node was not ready in time and was killed. `log` is the end of its output.
    case startTimedOut(after: Duration, log: String)
    /// The node ended without having been asked to.
    case endedUnexpectedly(ExitStatus)
    /// The node is not running: it was stopped or killed, or has ended by itself.
    case notRunning
    /// The node is running or starting.
    case alreadyRunning
    /// ``LocalBroker/shutdown()`` was called: this broker cannot be started again.
    case shutDown
    /// The broker did not answer in time, for example because it is paused.
    case requestTimedOut(command: String, after: Duration)
    /// The broker refused the request, or the answer could not be decoded.
    case requestFailed(command: String, reason: String)
    /// The waiting task was cancelled.
    case cancelled
}

extension LocalBrokerError: CustomStringConvertible {
    /// The error as a sentence, with the remedy if there is one.
    public var description: String {
        switch self {
        case .notInstalled(let searched):
            """
            RabbitMQ is not installed: install the package rabbitmq-server (Debian, Ubuntu: apt-get install \
            rabbitmq-server; macOS: brew install rabbitmq). Looked for: \(searched.joined(separator: ", ")).
            """
        case .invalidOption(let name, let reason):
            "\(name) \(reason)"
        case .cannotPrepare(let path, let reason):
            "cannot prepare \(path): \(reason)"
        case .cannotSpawn(let executable, let reason):
            "cannot start \(executable): \(reason)"
        case .portInUse(let port):
            "port \(port) of 127.0.0.1 is in use"
        case .startFailed(let status, let log):
            "RabbitMQ \(status) before it was ready. It wrote last:\n\(log)"
        case .startTimedOut(let duration, let log):
            "RabbitMQ was not ready after \(duration). It wrote last:\n\(log)"
        case .endedUnexpectedly(let status):
            "RabbitMQ \(status) without having been asked to"
        case .notRunning:
            "the broker is not running"
        case .alreadyRunning:
            "the broker is running already"
        case .shutDown:
            "the broker was shut down for good"
        case .requestTimedOut(let command, let duration):
            "the broker did not answer '\(command)' within \(duration)"
        case .requestFailed(let command, let reason):
            "the broker refused '\(command)': \(reason)"
        case .cancelled:
            "cancelled"
        }
    }
}
