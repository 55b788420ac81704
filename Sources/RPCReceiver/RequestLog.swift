import Logging
import RPCWire
import Synchronization

/// What a receiver logs of requests, no more than so many lines of a kind in a while: whoever can send requests must not be able to
/// fill the log. What was left out is counted in the next line of its kind.
final class RequestLog: Sendable {
    /// What a line is about.
    enum Kind: Int, CaseIterable, Sendable {
        case castFailed, handlerFailed, timedOut, givenUp, unanswerable, misdirected, refused
    }

    let logger: Logger
    private let queue: String
    private let budgets: Mutex<[LogBudget]>

    init(_ logger: Logger, queue: String) {
        self.logger = logger
        self.queue = queue
        budgets = Mutex(Kind.allCases.map { _ in LogBudget() })
    }

    func callAsFunction(
        _ kind: Kind,
        _ level: Logger.Level,
        _ message: Logger.Message,
        _ metadata: @autoclosure () -> Logger.Metadata
    ) {
        guard level >= logger.logLevel else { return }
        let now = Moment.now
        guard let suppressed = budgets.withLock({ $0[kind.rawValue].spend(at: now) }) else { return }
        var metadata = metadata()
        metadata[LogKey.queue.rawValue] = "\(queue)"
        if suppressed > 0 { metadata[LogKey.suppressed.rawValue] = "\(suppressed)" }
        logger.log(level: level, message, metadata: metadata)
    }
}

/// How many lines may be written: ``limit`` in each ``period``.
struct LogBudget: Sendable {
    static let limit = 10
    static let period: Duration = .seconds(10)

    private var begun: Moment?
    private var spent = 0
    private var suppressed = 0

    /// Whether a line may be written, and if so how many were left out before it.
    mutating func spend(at now: Moment) -> Int? {
        if let begun, begun.duration(to: now) < Self.period {
            guard spent < Self.limit else {
                suppressed += 1
                return nil
            }
            spent += 1
            return 0
        }
        begun = now
        spent = 1
        defer { suppressed = 0 }
        return suppressed
    }
}
