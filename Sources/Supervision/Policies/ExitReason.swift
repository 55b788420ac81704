/// Why a process ended. OTP's exit reasons as a closed type.
///
/// | reason | OTP | a transient child is restarted |
/// |---|---|---|
/// | ``normal`` | `normal` | no |
/// | ``shutdown(cause:)`` | `shutdown`, `{shutdown, Term}` | no |
/// | ``killed`` | `killed` | yes |
/// | ``crashed(_:)`` | any other term | yes |
/// | ``noProcess`` | `noproc` | never seen by a supervisor |
public enum ExitReason: Sendable {
    /// It was done: `run()` returned, and nobody had asked it to.
    case normal
    /// It was asked to end and did. With a cause it is OTP's `{shutdown, Term}`: the cause is kept on the way up the tree.
    case shutdown(cause: (any Error)? = nil)
    /// It was killed, or did not end in the time its shutdown allows.
    case killed
    /// It failed with this error.
    case crashed(any Error)
    /// There was no such process to begin with.
    case noProcess

    /// Whether the process failed: not ``normal`` and not ``shutdown(cause:)``.
    public var isAbnormal: Bool {
        switch self {
        case .normal, .shutdown: false
        case .killed, .crashed, .noProcess: true
        }
    }

    /// The error that this reason carries, if it has one.
    public var error: (any Error)? {
        switch self {
        case .shutdown(let cause): cause
        case .crashed(let error): error
        case .normal, .killed, .noProcess: nil
        }
    }
}

extension ExitReason: CustomStringConvertible {
    /// One line: the reason's name, with its cause or error.
    public var description: String {
        switch self {
        case .normal: "normal"
        case .shutdown(nil): "shutdown"
        case .shutdown(let cause?): "shutdown: \(cause)"
        case .killed: "killed"
        case .crashed(let error): "crashed: \(error)"
        case .noProcess: "no process"
        }
    }
}
