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

extension ExitReason: Equatable {
    /// Whether both are the same reason. Errors are the same when they are of one type and equal; where the type is not
    /// `Equatable`, when they describe themselves in the same words.
    public static func == (left: ExitReason, right: ExitReason) -> Bool {
        switch (left, right) {
        case (.normal, .normal), (.killed, .killed), (.noProcess, .noProcess), (.shutdown(nil), .shutdown(nil)): true
        case (.shutdown(let left?), .shutdown(let right?)), (.crashed(let left), .crashed(let right)):
            isSame(left, right)
        case (.normal, _), (.shutdown, _), (.killed, _), (.crashed, _), (.noProcess, _): false
        }
    }

    private static func isSame(_ left: any Error, _ right: any Error) -> Bool {
        guard type(of: left) == type(of: right) else { return false }
        guard let left = left as? any Equatable else { return String(describing: left) == String(describing: right) }
        return isEqual(left, right)
    }

    private static func isEqual<Value: Equatable>(_ left: Value, _ right: any Error) -> Bool { right as? Value == left }
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
