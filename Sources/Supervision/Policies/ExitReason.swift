/// Why a process ended: OTP's exit reasons as a closed type.
///
/// | reason | OTP | a transient child is restarted |
/// |---|---|---|
/// | ``normal`` | `normal` | no |
/// | ``shutdown(cause:)`` | `shutdown`, `{shutdown, Term}` | no |
/// | ``killed`` | `killed` | yes |
/// | ``crashed(_:)`` | any other term | yes |
/// | ``noProcess`` | `noproc` | never seen by a supervisor |
public enum ExitReason: Sendable {
    /// It finished: `run()` returned without having been asked to stop.
    case normal
    /// It was asked to stop, and did. With a cause this is OTP's `{shutdown, Term}`: the cause is passed on up the tree.
    case shutdown(cause: (any Error)? = nil)
    /// It was killed, or did not end within its shutdown timeout.
    case killed
    /// It failed with this error.
    case crashed(any Error)
    /// The process did not exist.
    case noProcess

    /// Whether the process failed: any reason but ``normal`` and ``shutdown(cause:)``.
    public var isAbnormal: Bool {
        switch self {
        case .normal, .shutdown: false
        case .killed, .crashed, .noProcess: true
        }
    }

    /// The error that the reason carries, if any.
    public var error: (any Error)? {
        switch self {
        case .shutdown(let cause): cause
        case .crashed(let error): error
        case .normal, .killed, .noProcess: nil
        }
    }
}

extension ExitReason: Equatable {
    /// Whether both are the same reason. Errors are equal when they have the same type and compare equal; if the type is not `Equatable`,
    /// when their descriptions are the same.
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
