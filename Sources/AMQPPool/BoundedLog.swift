import Logging
import Synchronization

/// What is logged of messages, no more than so many lines of a kind in a while: whoever may publish must not be able to fill the log.
/// What was left out is counted in the next line of its kind. Control characters are escaped: nobody writes lines of their own.
package final class BoundedLog<Kind: CaseIterable & RawRepresentable & Sendable>: Sendable where Kind.RawValue == Int {
    private let budgets: Mutex<[Int: LogBudget]>
    private let suppressedKey: String

    /// - Parameter suppressedKey: What the number of lines that were left out is called.
    package init(_ kinds: Kind.Type = Kind.self, suppressedKey: String = "suppressed") {
        budgets = Mutex(
            Dictionary(Kind.allCases.map { ($0.rawValue, LogBudget()) }, uniquingKeysWith: { first, _ in first })
        )
        self.suppressedKey = suppressedKey
    }

    package func callAsFunction(
        _ kind: Kind,
        _ level: Logger.Level,
        to logger: Logger,
        _ message: Logger.Message,
        _ metadata: @autoclosure () -> Logger.Metadata
    ) {
        guard level >= logger.logLevel else { return }
        let now = ContinuousClock.now
        guard let suppressed = budgets.withLock({ $0[kind.rawValue, default: LogBudget()].spend(at: now) }) else {
            return
        }
        var metadata = metadata().escaped
        if suppressed > 0 { metadata[suppressedKey] = "\(suppressed)" }
        logger.log(level: level, message, metadata: metadata)
    }
}

/// How many lines may be written: ``limit`` in each ``period``.
package struct LogBudget: Sendable {
    package static let limit = 10
    package static let period: Duration = .seconds(10)

    private var begun: ContinuousClock.Instant?
    private var spent = 0
    private var suppressed = 0

    package init() {}

    /// Whether a line may be written, and if so how many were left out before it.
    package mutating func spend(at now: ContinuousClock.Instant) -> Int? {
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
