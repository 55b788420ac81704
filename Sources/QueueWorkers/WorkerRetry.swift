public import Supervision

/// How often a worker tries a message, when, and what becomes of it afterwards.
///
///     .after([.seconds(10), .minutes(1), .minutes(10)], then: .park)
///
/// tries a message four times: when it comes, and after each of the pauses. During a pause of a second or more the message waits at the
/// broker, in a queue of its own for each length: it costs no prefetch, and survives the worker. Shorter ones are waited for here.
public struct WorkerRetry: Sendable, Hashable {
    /// What becomes of a message when all attempts have failed.
    public enum Exhausted: Sendable, Hashable {
        /// It is kept in `<queue>.failed`, with the reason in its headers.
        case park
        /// It is rejected: it goes to the queue's dead letter exchange. Of a queue that a worker has declared that is `<queue>.failed`; of
        /// another one without such an exchange the broker **drops** it.
        case reject
        /// It is acknowledged, and **gone**.
        case discard
    }

    /// The pauses between the attempts. There is one attempt more than pauses.
    public var pauses: [Duration]
    /// What becomes of a message when the last attempt has failed.
    public var exhausted: Exhausted
    /// What was wrong with what the pauses were to be made of. It is told when the worker starts.
    private var mistake: String?

    private init(pauses: [Duration], exhausted: Exhausted, mistake: String? = nil) {
        self.pauses = pauses
        self.exhausted = exhausted
        self.mistake = mistake
    }

    /// These pauses.
    ///
    /// - Parameters:
    ///   - pauses: the pauses between the attempts.
    ///   - immediately: how many further attempts are made at once, before the first pause.
    ///   - exhausted: what becomes of a message when the last attempt has failed.
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

    /// Pauses that grow as the backoff says, without its jitter: each length is a queue.
    ///
    /// - Parameters:
    ///   - backoff: how they grow.
    ///   - attempts: how many attempts in all, from 1 to ``maximumAttempts``.
    ///   - exhausted: what becomes of a message when the last attempt has failed.
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

    /// One attempt.
    public static func never(then exhausted: Exhausted = .park) -> WorkerRetry {
        WorkerRetry(pauses: [], exhausted: exhausted)
    }

    /// Ten seconds, a minute, ten minutes; then the message is parked.
    public static let standard = after([.seconds(10), .minutes(1), .minutes(10)])

    /// No message is tried more often than this, whatever its errors say: 100.
    public static let maximumAttempts = 100

    /// What is wrong with these values, if anything.
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
    /// So many minutes.
    public static func minutes(_ minutes: Int) -> Duration { .seconds(clamping: minutes, times: 60) }
    /// So many hours.
    public static func hours(_ hours: Int) -> Duration { .seconds(clamping: hours, times: 3600) }

    private static func seconds(clamping count: Int, times factor: Int) -> Duration {
        let product = count.multipliedReportingOverflow(by: factor)
        return .seconds(product.overflow ? (count < 0 ? Int.min : Int.max) : product.partialValue)
    }
}

/// What becomes of a message whose handler has failed.
public enum FailureDecision: Sendable, Hashable {
    /// As ``WorkerRetry`` says. What happens when nothing else was decided.
    case retry
    /// It is tried again at once.
    case retryNow
    /// It is tried again after this pause: at the broker, rounded up to the next of 1, 2, 5, 10, 20, 50... seconds, unless the worker's
    /// ``WorkerRetry`` has a pause of just that length.
    case retryAfter(Duration)
    /// It is kept in `<queue>.failed`.
    case park
    /// It is rejected: see ``WorkerRetry/Exhausted/reject``.
    case reject
    /// It is acknowledged, and gone.
    case discard
}

/// An error that knows what becomes of the message whose handler throws it.
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
/// For errors of others see ``WorkerConfiguration/onFailure``.
public protocol DecidingError: Error {
    /// What becomes of the message.
    var failureDecision: FailureDecision { get }
}
