public import Supervision

/// How often and when a worker tries a message, and what happens to it afterwards.
///
///     .after([.seconds(10), .minutes(1), .minutes(10)], then: .park)
///
/// tries a message four times: on arrival, and after each of the delays. During a delay of a second or more the message waits on the
/// broker, in one queue per length: it uses no prefetch, and survives the worker. Shorter delays are waited for in the worker.
public struct WorkerRetry: Sendable, Hashable {
    /// What happens to a message when all attempts have failed.
    public enum Exhausted: Sendable, Hashable {
        /// It is kept in `<queue>.failed`, with the reason in its headers.
        case park
        /// It is rejected: it goes to the queue's dead letter exchange. For a queue declared by a worker that leads to `<queue>.failed`;
        /// for another queue without a dead letter exchange the broker **drops** it.
        case reject
        /// It is acknowledged, and **lost**.
        case discard
    }

    /// The delays between the attempts. There is one more attempt than delays.
    public var pauses: [Duration]
    /// What happens to a message when the last attempt has failed.
    public var exhausted: Exhausted
    /// The problem with the arguments of the delays. It is reported when the worker starts.
    private var mistake: String?

    private init(pauses: [Duration], exhausted: Exhausted, mistake: String? = nil) {
        self.pauses = pauses
        self.exhausted = exhausted
        self.mistake = mistake
    }

    /// Retries after these delays.
    ///
    /// - Parameters:
    ///   - pauses: The delays between the attempts.
    ///   - immediately: The number of additional attempts without a delay, before the first delay.
    ///   - exhausted: What happens to a message when the last attempt has failed.
    public static func after(
        _ pauses: [Duration],
        immediately: Int = 0,
        then exhausted: Exhausted = .park
    ) -> WorkerRetry {
        let count = min(max(0, immediately), maximumAttempts)
        return WorkerRetry(
            pauses: Array(repeating: .zero, count: count) + pauses,
            exhausted: exhausted,
            mistake: immediately < 0 ? "retry has \(immediately) attempts at once; that cannot be less than 0" : nil
        )
    }

    /// Retries after delays that grow according to the backoff, without its jitter, because each length needs a queue.
    ///
    /// - Parameters:
    ///   - backoff: How they grow.
    ///   - attempts: The total number of attempts, from 1 to ``maximumAttempts``.
    ///   - exhausted: What happens to a message when the last attempt has failed.
    public static func backoff(_ backoff: Backoff, attempts: Int, then exhausted: Exhausted = .park) -> WorkerRetry {
        if let problem = backoff.problem {
            return WorkerRetry(pauses: [], exhausted: exhausted, mistake: "the backoff of retry: \(problem)")
        }
        guard (1...maximumAttempts).contains(attempts) else {
            let mistake = "retry has \(attempts) attempts; possible are 1 to \(maximumAttempts)"
            return WorkerRetry(pauses: [], exhausted: exhausted, mistake: mistake)
        }
        let count = attempts - 1
        let pauses = (0..<count).map { backoff.delay(afterFailures: $0 + 1, random: 0) }
        return WorkerRetry(pauses: pauses, exhausted: exhausted)
    }

    /// Tries a message once.
    public static func never(then exhausted: Exhausted = .park) -> WorkerRetry {
        WorkerRetry(pauses: [], exhausted: exhausted)
    }

    /// Retries after ten seconds, a minute and ten minutes; then the message is parked.
    public static let standard = after([.seconds(10), .minutes(1), .minutes(10)])

    /// The maximum number of attempts of any message, whatever its errors say: 100.
    public static let maximumAttempts = 100

    /// The first problem with these values, `nil` if they are valid.
    var problem: String? {
        if let mistake { return mistake }
        if pauses.count >= Self.maximumAttempts {
            return "retry has \(pauses.count) pauses; at most \(Self.maximumAttempts - 1) are possible"
        }
        if let pause = pauses.first(where: { $0 < .zero || $0 > DelayQueue.longest }) {
            return "retry has a pause of \(pause); possible are 0 to \(DelayQueue.longest)"
        }
        return nil
    }
}

extension Duration {
    /// A duration in minutes.
    public static func minutes(_ minutes: Int) -> Duration { .seconds(clamping: minutes, times: 60) }
    /// A duration in hours.
    public static func hours(_ hours: Int) -> Duration { .seconds(clamping: hours, times: 3600) }

    private static func seconds(clamping count: Int, times factor: Int) -> Duration {
        let product = count.multipliedReportingOverflow(by: factor)
        return .seconds(product.overflow ? (count < 0 ? Int.min : Int.max) : product.partialValue)
    }
}

/// What happens to a message whose handler has failed.
public enum FailureDecision: Sendable, Hashable {
    /// As ``WorkerRetry`` says. The default.
    case retry
    /// It is retried immediately.
    case retryNow
    /// It is retried after this delay, on the broker, rounded up to the next of 1, 2, 5, 10, 20, 50... seconds, unless the worker's
    /// ``WorkerRetry`` has a delay of exactly that length.
    case retryAfter(Duration)
    /// It is kept in `<queue>.failed`.
    case park
    /// It is rejected: see ``WorkerRetry/Exhausted/reject``.
    case reject
    /// It is acknowledged, and lost.
    case discard
}

/// An error that decides what happens to the message whose handler throws it.
///
///     enum OrderError: DecidingError {
///         case unknownCustomer, warehouseClosed
///
///         var failureDecision: FailureDecision {
///             switch self {
///             case .unknownCustomer: .park
///             case .warehouseClosed: .retryAfter(.hours(1))
///             }
///         }
///     }
///
/// For other errors see ``WorkerConfiguration/onFailure``.
public protocol DecidingError: Error {
    /// What happens to the message.
    var failureDecision: FailureDecision { get }
}
