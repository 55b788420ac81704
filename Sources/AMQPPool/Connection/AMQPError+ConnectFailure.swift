import NIOCore
import NIOPosix

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension AMQPError {
    /// A short, readable reason for a failed TCP connection, for example "connection refused".
    ///
    /// NIO reports every address it tried, each with the system call and the error number. The result lists the distinct reasons.
    static func connectFailureReason(_ error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            reason(ofAttempts: error.connectionErrors.map(\.error))
        case let error as IOError:
            reason(ofSystemError: error.errnoCode)
        case ChannelError.connectTimeout:
            "no answer in time"
        default:
            "\(error)"
        }
    }

    /// Without an attempt there was no address: the resolver gives no further reason.
    private static func reason(ofAttempts errors: [any Error]) -> String {
        var reasons: [String] = []
        for reason in errors.lazy.map({ connectFailureReason($0) }) where !reasons.contains(reason) {
            reasons.append(reason)
        }
        return reasons.isEmpty ? "the name does not resolve" : reasons.joined(separator: ", ")
    }

    private static func reason(ofSystemError code: CInt) -> String {
        if code == ETIMEDOUT { return "no answer in time" }
        if code == EMFILE {
            return "too many open files: the limit of this process is too low (ulimit -n), or descriptors leak"
        }
        // The system's texts are capitalised: "Connection refused", "No route to host".
        let text = String(cString: strerror(code))
        return text.prefix(1).lowercased() + text.dropFirst()
    }
}
