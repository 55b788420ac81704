import NIOCore

/// What becomes of a message whose handler has thrown.
///
/// None of them loops hot: whatever comes again comes after a delay that grows with the attempts (see
/// ``ConsumerConfiguration/retryBackoff``), during which the message counts against the prefetch.
///
/// Brokers count deliveries, not failures: one that ended with a crash, a lost connection or a stop of the consumer counts for
/// ``requeueOnce`` and ``deadLetterAfter(_:)`` too.
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
    /// A quorum queue counts the attempts itself (`x-delivery-count`). Other queues do not: from the second failure on the
    /// consumer publishes the message to its queue again, with the count in the header `x-attempts`, and acknowledges the
    /// old one when the broker has confirmed the new one. So it moves to the end of the queue, its `expiration` begins
    /// anew, and its `user-id` is lost. Who moves a dead letter back to its queue should take the header off.
    case deadLetterAfter(Int)
}

/// What to do about one failed delivery.
enum FailureDecision: Equatable {
    case acknowledge
    case reject
    /// To be delivered again after the delay of this attempt.
    case requeue(attempt: Int)
    /// To be published again with this count in its headers, after the delay of this attempt.
    case publishAgain(attempt: Int)
}

extension DeliveryFailurePolicy {
    /// The header in which a consumer counts, on queues which do not.
    static let attemptsHeader = "x-attempts"

    /// - Parameter failuresInRow: how many deliveries of this consumer have failed since one did not: stands in for the
    ///   attempts where nobody counts them.
    func decide(_ delivery: Delivery, failuresInRow: Int) -> FailureDecision {
        let counted = delivery.properties.headers["x-delivery-count"]?.count.map { $0 + 1 }
        switch self {
        case .ack: return .acknowledge
        case .reject: return .reject
        case .requeue: return .requeue(attempt: counted ?? failuresInRow)
        case .requeueOnce: return delivery.redelivered ? .reject : .requeue(attempt: 1)
        case .deadLetterAfter(let limit):
            let before = delivery.properties.headers[Self.attemptsHeader]?.count
            // Without any count: the first attempt, or the second on a queue that does not count.
            let attempt = counted ?? (before ?? 0) + (delivery.redelivered ? 2 : 1)
            if attempt >= limit { return .reject }
            let isUncounted = counted == nil && (before != nil || delivery.redelivered)
            return isUncounted ? .publishAgain(attempt: attempt) : .requeue(attempt: attempt)
        }
    }
}

extension FieldValue {
    /// The value as a count, if it is a whole number that can be one.
    fileprivate var count: Int? {
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
            default: nil
            }
        // From outside: a number so large that one more overflows is no count.
        return number.flatMap { (0..<Int(Int32.max)).contains($0) ? $0 : nil }
    }
}
