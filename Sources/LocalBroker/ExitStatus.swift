/// How an operating system process ended.
public enum ExitStatus: Sendable, Hashable, CustomStringConvertible {
    /// It ended by itself with this exit code.
    case exited(code: Int32)
    /// This signal ended it.
    case signalled(Int32)

    /// Decodes the status word of `waitpid(2)`.
    init(waitStatus: Int32) {
        let signal = waitStatus & 0x7f
        self = signal == 0 ? .exited(code: (waitStatus >> 8) & 0xff) : .signalled(signal)
    }

    /// The second half of a sentence: "ended with exit code 1".
    public var description: String {
        switch self {
        case .exited(let code): "ended with exit code \(code)"
        case .signalled(let signal): "was ended by signal \(signal)"
        }
    }
}
