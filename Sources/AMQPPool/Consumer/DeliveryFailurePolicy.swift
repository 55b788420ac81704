import Supervision

/// What becomes of a message whose handler has thrown or has run out of time.
///
/// None of them loops hot: whatever comes again comes after a delay that grows with the attempts (see
/// ``ConsumerConfiguration/retryBackoff``), during which the message counts against the prefetch.
///
/// Brokers count deliveries, not failures: one that ended with a crash, a lost connection or a stop of the consumer counts for
/// ``requeueOnce`` and ``deadLetterAfter(_:)`` too. Only quorum queues count; there the count is looked at before the handler runs, so
/// it holds also for a message that ends the process. Nobody counts the deliveries of a classic queue: a message that ends the process
/// each time is delivered for ever. Declare a quorum queue with a delivery limit where that can happen.
///
/// | | classic queue | quorum queue | stream |
/// |---|---|---|---|
/// | ``requeue`` | without an end | until the queue's own limit: 20 deliveries from RabbitMQ 4.0 on unless it is declared with another, and then dead-lettered or dropped | again in place, without an end |
/// | ``requeueOnce`` | the second attempt is the last | the same, by the broker's count | once more in place |
/// | ``deadLetterAfter(_:)`` | counted here; a crash begins anew at the second | counted by the broker | counted here; a crash begins anew |
/// | what is rejected | dead-lettered, or dropped where the queue has no dead letter exchange | the same | logged and passed, since a stream cannot reject |
///
/// With ``ConsumerConfiguration/deadLetters`` what would be rejected is published there first, whatever the queue.
public enum DeliveryFailurePolicy: Sendable, Hashable {
    /// It is acknowledged: the handler has seen to it, and nobody gets it again.
    case ack
    /// It is rejected: it goes to the queue's dead letter exchange, or is dropped where there is none.
    case reject
    /// It is delivered again, without an end. A message that can never be handled comes again and again, with the backoff's
    /// maximum between two attempts.
    case requeue
    /// It is delivered once more, and rejected when it fails again.
    case requeueOnce
    /// It is tried this often in all, at least once, and then rejected.
    ///
    /// A quorum queue counts the attempts itself (`x-delivery-count`), and gets the message back between two of them. With other
    /// queues it stays here, unacknowledged, and is counted here.
    case deadLetterAfter(Int)
}

/// What is known about the attempts before, when a delivery comes.
struct DeliveryAttempts: Sendable, Hashable {
    /// Which attempt this is, as far as is known.
    let number: Int
    /// Whether the broker counts them.
    let isCounted: Bool
    /// Whether the count was written by somebody else than the broker.
    let isForged: Bool

    /// - Parameter type: what the queue is; nil if that is not known.
    init(_ delivery: Delivery, from type: QueueArguments.QueueType?) {
        let count = delivery.properties.headers["x-delivery-count"]?.count
        switch type {
        case .quorum:
            // From 4.3 on, one that came back untried has no count.
            number = delivery.redelivered ? (count ?? 0) + 1 : 1
            isCounted = true
            isForged = false
        case .classic, .stream:
            number = delivery.redelivered ? 2 : 1
            isCounted = false
            isForged = false
        case nil:
            // Only quorum queues write it, and only when they deliver again.
            isForged = count != nil && !delivery.redelivered
            isCounted = count.map { $0 > 0 } ?? false && delivery.redelivered
            number = delivery.redelivered ? (count.map { $0 + 1 } ?? 2) : 1
        }
    }
}

extension DeliveryFailurePolicy {
    /// How often a message is tried in all; `nil`: without an end, or as the queue has it.
    var attempts: Int? {
        switch self {
        case .ack, .reject: 1
        case .requeue: nil
        case .requeueOnce: 2
        case .deadLetterAfter(let limit): max(1, limit)
        }
    }
    /// What becomes of a delivery before it is handled: it has been tried too often, by the broker's count.
    func decide(arrived attempts: DeliveryAttempts) -> Disposition? {
        guard attempts.isCounted else { return nil }
        switch self {
        case .ack, .reject, .requeue: return nil
        case .requeueOnce: return attempts.number > 2 ? .reject : nil
        case .deadLetterAfter(let limit): return attempts.number > max(1, limit) ? .reject : nil
        }
    }

    /// - Parameters:
    ///   - attempt: which one failed, with those in place.
    ///   - failuresInRow: how many deliveries of this consumer have failed since one did not: stands in for the
    ///     attempts where nobody counts them.
    ///   - backoff: the pause after so many failures.
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
            return attempt > 1 || redelivered ? .reject : .requeue(after: backoff(1))
        case .deadLetterAfter(let limit):
            if attempt >= limit { return .reject }
            // An unknown queue gets it back once, and shows thereby whether it counts.
            let goesBack = attempts.isCounted || (type == nil && attempt == 1 && !attempts.isForged)
            return goesBack ? .requeue(after: backoff(attempt)) : .retry(after: backoff(attempt))
        }
    }
}

extension FieldValue {
    /// The value as a count, if it is a whole number that can be one.
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
        // From outside: a number so large that one more overflows is no count.
        return number.flatMap { (0..<Int(Int32.max)).contains($0) ? $0 : nil }
    }
}
