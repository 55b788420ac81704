public import Supervision

/// Whether a call is sent again when nobody knows what became of it.
///
///     let total = try await rpc.call("stock", "count", "book", retry: .idempotent(attempts: 3), as: Int.self)
///
/// What is sent again, and what is not:
///
/// | the attempt ended with | again? |
/// |---|---|
/// | connection lost, unconfirmed | yes: the outcome is not known |
/// | reply queue lost, caller restarted | yes: the outcome is not known |
/// | returned (no such service), refused by the broker | yes: it was not delivered |
/// | an answer, an error of the receiver included | no: the outcome is known |
/// | the deadline, a cancellation | no: there is no time, or no wish |
/// | refused here | no: it would be refused again |
///
/// Each attempt has the same message id, so a receiver with a deduplication answers a repetition without running its handler
/// again, and an answer to any of the attempts ends the call. All attempts share the call's deadline. A request of which no byte was
/// written is always sent through another channel; that is no attempt.
public indirect enum RPCRetry: Sendable, Hashable {
    /// Not: the error says whether the request may have been processed.
    case never
    /// The procedure may run more than once for one call: it is sent up to `attempts` times in all, after delays that this backoff
    /// gives.
    case idempotent(
        attempts: Int = 3,
        backoff: Backoff = Backoff(minimum: .milliseconds(50), maximum: .seconds(1))
    )

    /// How many times more than once it may be sent.
    var retries: Int {
        switch self {
        case .never: 0
        case .idempotent(let attempts, _): min(max(1, attempts), Int(Int16.max) + 1) - 1
        }
    }

    /// The same with no more than this many retries.
    func limited(toRetries retries: Int) -> RPCRetry {
        switch self {
        case .never: self
        case .idempotent(_, let backoff): .idempotent(attempts: retries + 1, backoff: backoff)
        }
    }

    /// How long to wait before the attempt that follows this many.
    func delay(after attempts: Int) -> Duration {
        switch self {
        case .never: .zero
        case .idempotent(_, let backoff):
            max(.zero, backoff.delay(afterFailures: max(1, attempts), random: .random(in: 0..<1)))
        }
    }
}
