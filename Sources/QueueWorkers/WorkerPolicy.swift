import AMQPPool
import Foundation

/// A message of a worker, and what is known about it.
final class WorkerMessage: DeliveredMessage {
    let delivery: Delivery
    let queue: String
    let isStream: Bool
    /// The number of failed attempts before this delivery.
    let failedAttempts: Int
    /// The number of deliveries according to the broker, including this one; `nil` if nobody counts them.
    let deliveries: Int?
    /// Seconds since 1970.
    let firstArrival: UInt64
    /// Its value, if it was needed before its turn.
    let decoded: Result<any Sendable, WorkerError>?
    let isOrdered: Bool

    init(
        _ delivery: Delivery,
        from queue: String,
        _ type: QueueArguments.QueueType?,
        now: UInt64,
        decoded: Result<any Sendable, WorkerError>? = nil,
        isOrdered: Bool = false
    ) {
        self.delivery = delivery
        self.queue = queue
        self.decoded = decoded
        self.isOrdered = isOrdered
        isStream = type?.isStream ?? false
        let headers = delivery.properties.headers
        // Anybody can write the count. It is trusted for a message that came through a delay queue, which the broker confirms.
        let cameBack = headers.wasIn { DelayQueue.isOne($0, of: queue) }
        let counted = cameBack ? headers[header: .attempts]?.count : nil
        // The count of messages republished by consumers of earlier versions; one attempt is left in any case.
        failedAttempts = min(counted ?? headers[MessageHeader.oldAttempts]?.count ?? 0, WorkerRetry.maximumAttempts)
        let count = headers["x-delivery-count"]?.count
        deliveries =
            switch type {
            case .quorum: delivery.redelivered ? (count ?? 0) + 1 : 1
            case .classic, .stream: nil
            case nil: delivery.redelivered ? count.map { $0 + 1 } : nil
            }
        firstArrival = cameBack ? Self.seconds(headers[header: .firstArrival]) ?? now : now
    }

    private static func seconds(_ value: FieldValue?) -> UInt64? {
        switch value {
        case .int64(let seconds)?: UInt64(exactly: seconds)
        case .uint64(let seconds)?, .timestamp(let seconds)?: seconds
        case .bool, .int8, .uint8, .int16, .uint16, .int32, .uint32, .float, .double, .decimal, .string, .bytes,
            .array, .table, .void, nil:
            nil
        }
    }
}

/// Decides about a worker's messages. Pure: it gets the time as input, and publishes nothing.
struct WorkerPolicy: Sendable {
    /// Delays up to this are waited for in the worker.
    static let longestPauseHere = Duration.seconds(1)

    let retry: WorkerRetry
    let configuration: WorkerConfiguration
    let host: String
    /// The queue for failed messages instead of `<queue>.failed`.
    var keepsFailedIn: String?

    /// The decision about a message that is not handled because it was delivered too often.
    func decide(arrived message: WorkerMessage, now: UInt64) -> Disposition? {
        guard let count = message.deliveries, count > configuration.deliveryLimit else { return nil }
        return park(message, attempt: message.failedAttempts + 1, WorkerError.deliveredTooOften(count - 1), now: now)
    }

    /// The decision about a message whose handler has failed.
    ///
    /// - Parameter attempt: The number of the attempt, from 1, over all deliveries.
    func decide(
        _ message: WorkerMessage,
        attempt: Int,
        _ error: any Error,
        _ context: WorkerContext,
        now: UInt64
    ) -> (decision: FailureDecision, disposition: Disposition) {
        let decision = decision(about: error, context)
        switch decision {
        case .retry:
            guard attempt - 1 < retry.pauses.count else { return exhausted(message, attempt: attempt, error, now: now) }
            return (decision, again(message, after: retry.pauses[attempt - 1], attempt: attempt, error, now: now))
        case .retryNow, .retryAfter:
            guard attempt < WorkerRetry.maximumAttempts else {
                return (.park, park(message, attempt: attempt, error, now: now))
            }
            let pause: Duration = if case .retryAfter(let pause) = decision { max(.zero, pause) } else { .zero }
            return (decision, again(message, after: pause, attempt: attempt, error, now: now))
        case .park: return (.park, park(message, attempt: attempt, error, now: now))
        case .reject: return (.reject, message.isStream ? park(message, attempt: attempt, error, now: now) : .reject)
        case .discard: return (.discard, .acknowledge)
        }
    }

    private func decision(about error: any Error, _ context: WorkerContext) -> FailureDecision {
        if let error = error as? any DecidingError { return error.failureDecision }
        // It would fail the same way each time.
        if case .undecodable? = error as? WorkerError { return .park }
        return configuration.onFailure(error, context) ?? .retry
    }

    private func exhausted(
        _ message: WorkerMessage,
        attempt: Int,
        _ error: any Error,
        now: UInt64
    ) -> (FailureDecision, Disposition) {
        switch retry.exhausted {
        case .park: return (.park, park(message, attempt: attempt, error, now: now))
        case .reject: return (.reject, message.isStream ? park(message, attempt: attempt, error, now: now) : .reject)
        case .discard: return (.discard, .acknowledge)
        }
    }

    private func again(
        _ message: WorkerMessage,
        after pause: Duration,
        attempt: Int,
        _ error: any Error,
        now: UInt64
    ) -> Disposition {
        let isScheduled = retry.pauses.contains(pause)
        // Nothing can be returned to a stream, and a key whose order is kept waits for the message.
        let staysHere =
            pause < Self.longestPauseHere || message.isStream || (message.isOrdered && configuration.retriesBlockKey)
            || (!isScheduled && !configuration.declares.declaresMissing)
        guard !staysHere else { return .retry(after: pause) }
        let delay = DelayQueue(isScheduled ? pause : DelayQueue.rounded(pause), of: message.queue)
        var properties = message.delivery.properties.forwarded.withoutDeaths
        note(message, attempt: attempt, in: &properties)
        properties.headers[header: .failureReason] = .string(Self.reason(error))
        return .forward(
            Forward(exchange: "", routingKey: delay.name, properties: properties, body: message.delivery.body)
        )
    }

    /// Parks a message, with the reason, the time, the attempts and the origin.
    func park(_ message: WorkerMessage, attempt: Int, _ error: any Error, now: UInt64) -> Disposition {
        var properties = message.delivery.properties.forwarded.withoutDeaths
        note(message, attempt: attempt, in: &properties)
        properties.deliveryMode = .persistent
        properties.headers[header: .failureReason] = .string(Self.reason(error))
        properties.headers[header: .failureType] = .string(String("\(type(of: error))".prefix(200)))
        properties.headers[header: .failureTime] = .timestamp(now)
        properties.headers[header: .failureQueue] = .string(message.queue)
        properties.headers[header: .failureHost] = .string(host)
        return .forward(
            Forward(
                exchange: "",
                routingKey: keepsFailedIn ?? "\(message.queue).failed",
                properties: properties,
                body: message.delivery.body
            )
        )
    }

    /// Moves a message whose type has no handler.
    func setAside(_ message: WorkerMessage) -> Disposition {
        var properties = message.delivery.properties.forwarded.withoutDeaths
        properties.headers[header: .failureQueue] = .string(message.queue)
        return .forward(
            Forward(
                exchange: "",
                routingKey: "\(message.queue).unhandled",
                properties: properties,
                body: message.delivery.body
            )
        )
    }

    private func note(_ message: WorkerMessage, attempt: Int, in properties: inout MessageProperties) {
        var headers = properties.headers
        headers[MessageHeader.oldAttempts] = nil
        headers[header: .attempts] = .int64(Int64(attempt))
        headers[header: .firstArrival] = .int64(Int64(clamping: message.firstArrival))
        if message.failedAttempts == 0 {
            headers[header: .failureExchange] = .string(message.delivery.exchange)
            headers[header: .failureRoutingKey] = .string(message.delivery.routingKey)
        }
        properties.headers = headers
    }

    private static func reason(_ error: any Error) -> String {
        String("\(error)".prefix(MessageHeader.longestReason))
    }
}

extension MessageProperties {
    /// The properties without the brokers' dead letter headers: a copy is a separate message.
    var withoutDeaths: MessageProperties {
        var copy = self
        let kept = headers.entries.filter {
            !$0.key.hasPrefix("x-death") && !$0.key.hasPrefix("x-first-death") && !$0.key.hasPrefix("x-last-death")
                && $0.key != "x-delivery-count" && $0.key != "x-acquired-count" && $0.key != "x-stream-offset"
        }
        copy.headers = FieldTable(entries: kept)
        return copy
    }
}
