import AMQPPool
import Logging
import RPCWire

/// The log of a receiver about requests: bounded, and with their queue.
final class RequestLog: Sendable {
    /// The kinds of lines.
    enum Kind: Int, CaseIterable, Sendable {
        case castFailed, handlerFailed, timedOut, givenUp, unanswerable, misdirected, refused
    }

    let logger: Logger
    private let queue: String
    private let bounded = BoundedLog(Kind.self, suppressedKey: LogKey.suppressed.rawValue)

    init(_ logger: Logger, queue: String) {
        self.logger = logger
        self.queue = queue
    }

    func callAsFunction(
        _ kind: Kind,
        _ level: Logger.Level,
        _ message: Logger.Message,
        _ metadata: @autoclosure () -> Logger.Metadata
    ) {
        bounded(kind, level, to: logger, message, metadata().merging([LogKey.queue.rawValue: "\(queue)"]) { $1 })
    }
}
