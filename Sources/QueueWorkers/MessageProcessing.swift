import AMQPPool
internal import ConcurrencyPrimitives
import Logging

/// How the messages of a worker are decoded and handled, type-erased.
struct WorkerHandler: Sendable {
    /// Decodes the value of a message.
    var decode: @Sendable (Delivery) -> Result<any Sendable, WorkerError>
    /// The key by which messages are ordered or batched.
    var key: (@Sendable (any Sendable) -> AnyHashable)?
    /// Whether messages of one key are handled one after another.
    var isOrdered = false
    /// Whether there is a handler for the type of the message.
    var handlesType: @Sendable (Delivery) -> Bool = { _ in true }
    /// Whether handlers are distinguished by type.
    var hasTypes = false
    /// The first problem with its arguments, `nil` if they are valid.
    var problem: String?
    typealias Handle = @Sendable ([Input]) async -> [(any Error)?]

    /// A message to handle. Not a tuple, whose type metadata would be looked up each time.
    struct Input: Sendable {
        let value: any Sendable
        let context: WorkerContext
    }

    /// Handles messages together, and returns the error of each.
    var handle: Handle
}

/// The kinds of log lines about messages, each bounded: see `BoundedLog`.
enum MessageLogKind: Int, CaseIterable, Sendable { case notHandled, givenUp, notPublished }

/// Handles runs of messages: decodes, deduplicates, runs the handler, publishes its messages, and decides.
struct MessageProcessing: Sendable {
    let handler: WorkerHandler
    let policy: WorkerPolicy
    let logger: Logger
    let log = BoundedLog(MessageLogKind.self)
    let handled: HandledMessages?
    let metrics: ConsumerMetrics?
    let counters: WorkerCounters
    /// Publishes the messages of handlers.
    let publish: @Sendable (OutgoingMessage) async throws -> Void

    private var configuration: WorkerConfiguration { policy.configuration }

    // MARK: Arrivals

    func prepare(
        _ delivery: Delivery,
        from queue: String,
        _ type: QueueArguments.QueueType?
    ) -> PreparedDelivery {
        let now = secondsSince1970()
        let knownType = type ?? (delivery.streamOffset != nil ? .stream : nil)
        if !handler.handlesType(delivery) {
            let message = WorkerMessage(delivery, from: queue, knownType, now: now)
            var prepared = PreparedDelivery(message)
            prepared.disposition = policy.setAside(message)
            counters.count { $0.unhandled += 1 }
            return prepared
        }
        let decoded = handler.key.map { _ in handler.decode(delivery) }
        var partition: Int?
        if let key = handler.key, case .success(let value)? = decoded { partition = key(value).hashValue }
        let message = WorkerMessage(
            delivery,
            from: queue,
            knownType,
            now: now,
            decoded: decoded,
            isOrdered: handler.isOrdered && partition != nil
        )
        var prepared = PreparedDelivery(message)
        prepared.partition = partition
        prepared.attempt = message.failedAttempts + 1
        prepared.disposition = policy.decide(arrived: message, now: now)
        if let disposition = prepared.disposition {
            let reason = "\(WorkerError.deliveredTooOften((message.deliveries ?? 1) - 1))"
            report(gaveUp: message, attempt: prepared.attempt, .park, disposition, reason)
        }
        return prepared
    }

    // MARK: Handling

    private struct Work {
        let message: WorkerMessage
        let attempt: Int
        let context: WorkerContext
        var error: (any Error)?
        var isRepetition = false
        var value: (any Sendable)?
        var id: String?
        /// The index of the message with the same id.
        var first: Int?
    }

    func handle(_ run: DeliveryRun) async -> Dispositions {
        let begun = ContinuousClock.now
        metrics?.began(run.items.count)
        defer { metrics?.left(run.items.count) }
        var works: [Work] = []
        for item in run.items {
            guard let message = item.message as? WorkerMessage else { continue }
            let context = context(of: message, attempt: item.attempt)
            // Twice in one batch: it is handled once.
            if handled != nil, let id = context.messageID, let first = works.firstIndex(where: { $0.id == id }) {
                works.append(Work(message: message, attempt: item.attempt, context: context, first: first))
            } else {
                works.append(await begin(message, attempt: item.attempt, context))
            }
        }
        let present = works.indices.filter { works[$0].value != nil }
        if !present.isEmpty {
            let inputs = present.compactMap { index in
                works[index].value.map { WorkerHandler.Input(value: $0, context: works[index].context) }
            }
            for (index, error) in zip(present, await handler.handle(inputs)) { works[index].error = error }
        }
        for index in present where works[index].error == nil {
            works[index].error = await publishOutbox(of: works[index].context)
        }
        for (index, work) in works.enumerated() {
            guard let first = work.first else { continue }
            works[index].error = works[first].error
            works[index].isRepetition = true
        }
        let duration = begun.duration(to: .now)
        // The common case of a single message first.
        return Dispositions(
            works.first.map { conclude($0, after: duration) },
            works.dropFirst().map { conclude($0, after: duration) }
        )
    }

    private func begin(_ message: WorkerMessage, attempt: Int, _ context: WorkerContext) async -> Work {
        var work = Work(message: message, attempt: attempt, context: context)
        switch message.decoded ?? handler.decode(message.delivery) {
        case .failure(let error): work.error = error
        case .success(let value):
            guard let handled, let id = context.messageID else {
                work.value = value
                break
            }
            do {
                if try await handled.begin(id) {
                    work.value = value
                    work.id = id
                } else {
                    work.isRepetition = true
                }
            } catch {
                work.error = error
            }
        }
        return work
    }

    private func conclude(_ work: Work, after duration: Duration) -> Disposition {
        if let id = work.id { handled?.end(id, isHandled: work.error == nil) }
        // The message has been given up in the meantime, and its time limit or the broker has already decided about it.
        guard !Task.isCancelled else { return .requeue(after: .zero) }
        guard let error = work.error else {
            metrics?.record(work.isRepetition ? "repetition" : "success", after: duration)
            counters.count { if work.isRepetition { $0.repeated += 1 } else { $0.handled += 1 } }
            return .acknowledge
        }
        return decide(work.message, attempt: work.attempt, error, work.context, after: duration)
    }

    private func publishOutbox(of context: WorkerContext) async -> (any Error)? {
        for message in context.outbox.all {
            do {
                try await publish(message)
            } catch {
                return WorkerError.notPublished(to: message.destination, reason: "\(error)")
            }
        }
        return nil
    }

    private func context(of message: WorkerMessage, attempt: Int) -> WorkerContext {
        WorkerContext(message, attempt: attempt, logger: logger)
    }

    // MARK: Deciding

    func timedOut(_ item: DeliveryCore.Item) -> Disposition {
        guard let message = item.message as? WorkerMessage else { return .requeue(after: .zero) }
        let attempt = item.attempt
        let error = WorkerError.timeLimitExceeded(configuration.handlerTimeLimit)
        let context = context(of: message, attempt: attempt)
        return decide(message, attempt: attempt, error, context, after: configuration.handlerTimeLimit)
    }

    private func decide(
        _ message: WorkerMessage,
        attempt: Int,
        _ error: any Error,
        _ context: WorkerContext,
        after duration: Duration
    ) -> Disposition {
        let (decision, disposition) = policy.decide(message, attempt: attempt, error, context, now: secondsSince1970())
        switch decision {
        case .retry, .retryNow, .retryAfter:
            log(
                .notHandled,
                .warning,
                to: context.logger,
                "a message could not be handled, and is retried",
                metadata(message, attempt: attempt, decision, disposition, "\(error)")
            )
            metrics?.record("retry", after: duration)
            counters.count {
                $0.failed += 1
                $0.retried += 1
            }
            configuration.onEvent(.retried(messageID: context.messageID, attempt: attempt, error: error))
        case .park, .reject, .discard:
            metrics?.record("\(decision)", after: duration)
            counters.count { $0.failed += 1 }
            report(gaveUp: message, attempt: attempt, decision, disposition, "\(error)")
        }
        return disposition
    }

    /// The message's id, its attempt, and the decision, as log metadata.
    private func metadata(
        _ message: WorkerMessage,
        attempt: Int,
        _ decision: FailureDecision,
        _ disposition: Disposition,
        _ error: String
    ) -> Logger.Metadata {
        let outcome =
            switch disposition {
            // Through a delay queue, whose name means nothing to a reader.
            case .forward where decision.isRetry: "it is retried after \(pause(decision, attempt).text)"
            case .forward, .acknowledge, .reject, .requeue, .retry, .settled: disposition.text
            }
        let headers = message.delivery.properties.headers
        return [
            "messaging.destination.name": "\(message.queue)",
            "messaging.message.id": "\(message.delivery.properties.messageID ?? "none")",
            "exchange": "\(headers[header: .failureExchange]?.text ?? message.delivery.exchange)",
            "routing-key": "\(headers[header: .failureRoutingKey]?.text ?? message.delivery.routingKey)",
            "attempt": "\(attempt)\(decision.hasOwnLimit ? "" : " of \(policy.retry.pauses.count + 1)")",
            "decision": "\(outcome)",
            "error": "\(error)",
        ]
    }

    private func pause(_ decision: FailureDecision, _ attempt: Int) -> Duration {
        switch decision {
        case .retryAfter(let pause): pause
        case .retry: policy.retry.pauses.indices.contains(attempt - 1) ? policy.retry.pauses[attempt - 1] : .zero
        case .retryNow, .park, .reject, .discard: .zero
        }
    }

    private func report(
        gaveUp message: WorkerMessage,
        attempt: Int,
        _ decision: FailureDecision,
        _ disposition: Disposition,
        _ reason: String
    ) {
        let id = message.delivery.properties.messageID
        counters.count { counts in
            switch decision {
            case .park: counts.parked += 1
            case .reject: counts.rejected += 1
            case .discard: counts.discarded += 1
            case .retry, .retryNow, .retryAfter: break
            }
        }
        log(
            .givenUp,
            .error,
            to: logger,
            "a message is given up",
            metadata(message, attempt: attempt, decision, disposition, reason)
        )
        configuration.onEvent(.gaveUp(messageID: id, decision: decision, reason: reason))
    }
}

extension FailureDecision {
    fileprivate var isRetry: Bool {
        switch self {
        case .retry, .retryNow, .retryAfter: true
        case .park, .reject, .discard: false
        }
    }

    /// Whether it does not count against the attempts of the worker's retry.
    fileprivate var hasOwnLimit: Bool {
        switch self {
        case .retryNow, .retryAfter: true
        case .retry, .park, .reject, .discard: false
        }
    }
}

extension FieldValue {
    fileprivate var text: String? {
        if case .string(let text) = self { text } else { nil }
    }
}
