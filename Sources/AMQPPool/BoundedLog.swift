import Logging
import Synchronization

/// A log about messages that writes a bounded number of lines of each kind per period, so that publishers cannot fill the log. The next
/// line of a kind counts the lines that were suppressed. Control characters are escaped, so that nobody can forge lines.
package final class BoundedLog<Kind: CaseIterable & RawRepresentable & Sendable>: Sendable where Kind.RawValue == Int {
    private let budgets: Mutex<[Int: LogBudget]>
    private let suppressedKey: String

    /// - Parameter suppressedKey: The metadata key of the number of suppressed lines.
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

/// Limits how many lines may be written: ``limit`` in each ``period``.
package struct LogBudget: Sendable {
    package static let limit = 10
    package static let period: Duration = .seconds(10)

    private var begun: ContinuousClock.Instant?
    private var spent = 0
    private var suppressed = 0

    package init() {}

    /// The number of lines suppressed before this one; `nil` if it may not be written.
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
