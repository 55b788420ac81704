public import Supervision

/// Whether a call is sent again when its outcome is unknown.
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
/// | an answer, including an error of the receiver | no: the outcome is known |
/// | the deadline, a cancellation | no: nobody waits any more |
/// | refused by the client | no: it would be refused again |
///
/// All attempts have the same message id, so a receiver with deduplication answers a repeated request without running its handler again,
/// and an answer to any attempt ends the call. All attempts share the call's deadline. A request that was not written is always sent on
/// another channel; that does not count as an attempt.
public indirect enum RPCRetry: Sendable, Hashable {
    /// Never: the error says whether the request may have been processed.
    case never
    /// The procedure may run more than once per call: it is sent up to `attempts` times in total, with delays according to the backoff.
    case idempotent(
        attempts: Int = 3,
        backoff: Backoff = Backoff(minimum: .milliseconds(50), maximum: .seconds(1))
    )

    /// The maximum number of retries after the first attempt.
    var retries: Int {
        switch self {
        case .never: 0
        case .idempotent(let attempts, _): min(max(1, attempts), Int(Int16.max) + 1) - 1
        }
    }

    /// The same policy with at most this many retries.
    func limited(toRetries retries: Int) -> RPCRetry {
        switch self {
        case .never: self
        case .idempotent(_, let backoff): .idempotent(attempts: retries + 1, backoff: backoff)
        }
    }

    /// The delay after this many attempts.
    func delay(after attempts: Int) -> Duration {
        switch self {
        case .never: .zero
        case .idempotent(_, let backoff):
            max(.zero, backoff.delay(afterFailures: max(1, attempts), random: .random(in: 0..<1)))
        }
    }
}
