import Supervision

/// What happens to a message whose handler threw or exceeded its time limit.
///
/// No policy causes a busy loop: a retry is delayed by a backoff that grows with the attempts (see ``ConsumerConfiguration/retryBackoff``),
/// during which the message counts against the prefetch.
///
/// Brokers count deliveries, not failures: a delivery that ended with a crash, a lost connection or a stop of the consumer also counts for
/// ``requeueOnce`` and ``deadLetterAfter(_:)``, except that RabbitMQ 4.3 and later do not count what was returned untried. Only quorum
/// queues count; there the count is checked before the handler runs, so it also limits a message that crashes the process. Deliveries of
/// a classic queue are not counted: a message that crashes the process each time is redelivered forever. Declare a quorum queue with a
/// delivery limit where that can happen.
///
/// | | classic queue | quorum queue | stream |
/// |---|---|---|---|
/// | ``requeue`` | without a limit | until the queue's own limit (since RabbitMQ 4.0, 20 deliveries by default), then dead-lettered or dropped | retried in place, without a limit |
/// | ``requeueOnce`` | the second attempt is the last | the same, by the broker's count | retried once in place |
/// | ``deadLetterAfter(_:)`` | counted here; after a crash, starts again at the second | counted by the broker | counted here; starts again after a crash |
/// | a rejected message is | dead-lettered, or dropped if the queue has no dead letter exchange | the same | logged and skipped, since a stream cannot reject |
///
/// With ``ConsumerConfiguration/deadLetters``, a message that would be rejected is published there first, for any type of queue.
public enum DeliveryFailurePolicy: Sendable, Hashable {
    /// It is acknowledged: the handler has dealt with it, and it is not delivered again.
    case ack
    /// It is rejected: it goes to the queue's dead letter exchange, or is dropped if there is none.
    case reject
    /// It is redelivered without a limit. A message that can never be handled comes back again and again, at last at the maximum backoff.
    case requeue
    /// It is redelivered once, and rejected when it fails again. On a classic queue this depends on ``Delivery/redelivered``, or, where the
    /// broker does not set it, on the message id: <doc:ConsumingSafely>.
    case requeueOnce
    /// It is tried this often in total, at least once, and then rejected.
    ///
    /// A quorum queue counts the attempts itself (`x-delivery-count`), and gets the message back between them. For other queues the message
    /// stays here, unacknowledged, and the attempts are counted here.
    case deadLetterAfter(Int)
}

/// What is known about earlier attempts when a delivery arrives.
struct DeliveryAttempts: Sendable, Hashable {
    /// The number of this attempt, as far as known.
    let number: Int
    /// Whether the broker counts the attempts.
    let isCounted: Bool
    /// Whether the count was not written by the broker.
    let isForged: Bool

    /// - Parameters:
    ///   - type: The type of the queue; `nil` if unknown.
    ///   - wasRequeued: Whether it is known to have been delivered before, even if the broker does not mark it.
    init(_ delivery: Delivery, from type: QueueArguments.QueueType?, wasRequeued: Bool) {
        let count = delivery.properties.headers["x-delivery-count"]?.count
        switch type {
        case .quorum:
            // Since 4.3, a delivery that was returned untried has no count.
            number = delivery.redelivered ? (count ?? 0) + 1 : 1
            isCounted = true
            isForged = false
        case .classic, .stream:
            number = delivery.redelivered || wasRequeued ? 2 : 1
            isCounted = false
            isForged = false
        case nil:
            // Only quorum queues write the count, and only on redelivery.
            isForged = count != nil && !delivery.redelivered
            isCounted = count.map { $0 > 0 } ?? false && delivery.redelivered
            number = delivery.redelivered ? (count.map { $0 + 1 } ?? 2) : wasRequeued ? 2 : 1
        }
    }
}

extension DeliveryFailurePolicy {
    /// The total number of attempts; `nil` for no limit, or the queue's own.
    var attempts: Int? {
        switch self {
        case .ack, .reject: 1
        case .requeue: nil
        case .requeueOnce: 2
        case .deadLetterAfter(let limit): max(1, limit)
        }
    }
    /// Decides about a delivery before it is handled, if the broker has counted too many attempts.
    func decide(arrived attempts: DeliveryAttempts) -> Disposition? {
        guard attempts.isCounted else { return nil }
        switch self {
        case .ack, .reject, .requeue: return nil
        case .requeueOnce: return attempts.number > 2 ? .reject : nil
        case .deadLetterAfter(let limit): return attempts.number > max(1, limit) ? .reject : nil
        }
    }

    /// - Parameters:
    ///   - attempt: The number of the failed attempt, including retries in this consumer.
    ///   - failuresInRow: The number of consecutive failed deliveries of this consumer; replaces the attempts where nobody counts them.
    ///   - backoff: The delay after that many failures.
    func decide(
        failed attempts: DeliveryAttempts,
        attempt: Int,
        redelivered: Bool,
        from type: QueueArguments.QueueType?,
        failuresInRow: Int,
        backoff: (Int) -> Duration
    ) -> Disposition {
        switch self {
        case .ack: return .acknowledge
        case .reject: return .reject
        case .requeue: return .requeue(after: backoff(attempts.isCounted || attempt > 2 ? attempt : failuresInRow))
        case .requeueOnce:
            // A quorum queue counts; what it redelivers without a count has not been tried.
            let isTried = attempt > 1 || (redelivered && type != .quorum)
            return isTried ? .reject : .requeue(after: backoff(1))
        case .deadLetterAfter(let limit):
            if attempt >= limit { return .reject }
            // A queue of unknown type gets the message back once, which shows whether it counts.
            let goesBack = attempts.isCounted || (type == nil && attempt == 1 && !attempts.isForged)
            return goesBack ? .requeue(after: backoff(attempt)) : .retry(after: backoff(attempt))
        }
    }
}

extension FieldValue {
    /// The value as a count, if it is a valid whole number.
    package var count: Int? {
        let number: Int? =
            switch self {
            case .int8(let value): Int(value)
            case .uint8(let value): Int(value)
            case .int16(let value): Int(value)
            case .uint16(let value): Int(value)
            case .int32(let value): Int(value)
            case .uint32(let value): Int(value)
            case .int64(let value): Int(exactly: value)
            case .uint64(let value): Int(exactly: value)
            case .bool, .float, .double, .decimal, .string, .bytes, .array, .timestamp, .table, .void: nil
            }
        // Untrusted input: a number so large that adding one overflows is not a count.
        return number.flatMap { (0..<Int(Int32.max)).contains($0) ? $0 : nil }
    }
}
