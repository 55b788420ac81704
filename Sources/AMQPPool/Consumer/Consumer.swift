internal import ConcurrencyPrimitives
import Logging
public import Supervision
import Synchronization

/// A fault-tolerant consumer: keeps consuming a queue across failures of the connection, the channel, the queue, and the consumer itself.
///
///     let pool = AMQPPool(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
///     let shop = Supervisor("shop") {
///         pool.supervisor
///         Child.consumer("orders", of: "orders", on: pool) { channel in
///             try await channel.declareQueue("orders", durable: true)
///         } handler: { delivery in
///             try await handle(delivery.body)
///         }
///     }
///
/// A message is acknowledged when the handler returns; when it throws, ``ConsumerConfiguration/onFailure`` decides. Delivery is at least
/// once: messages that were not acknowledged are delivered again.
///
/// | what happens | what it does |
/// |---|---|
/// | there is no connection | waits; this does not count as a failure |
/// | the connection or the channel is lost | cancels the running handlers, and continues on another channel |
/// | the broker cancels the consumer (queue deleted, failover) | runs `onOpen` and consumes again, on the same channel |
/// | the queue is missing (404) | retries after a backoff; ``ConsumerConfiguration/missingQueue`` can limit that |
/// | the broker does not answer about the queue | retries on another channel: since RabbitMQ 4.0 this means that the queue's node is down |
/// | another consumer has the queue exclusively | retries after a backoff |
/// | the broker refuses the first declaration of `onOpen` (403, 406) | throws: this is a configuration error |
/// | it crashes or is killed, and restarts | gets the same channel back; its unacknowledged deliveries are requeued |
/// | a handler exceeds its time limit | cancels it, starts the next one, and decides as if it had thrown |
/// | more handlers than the concurrency ignore their cancellation | starts no more until some have ended |
/// | it is stopped | cancels the consumer, requeues deliveries that were not started, waits for the handlers, acknowledges, closes the channel |
///
/// A handler must not wait for the consumer, or a supervisor above it, to stop: they wait for the handler. Stop them from a separate task.
///
/// The consumer has its own channel, on a connection of the pool. During a memory alarm the broker stops reading from connections that
/// publish, including their acknowledgements: consumers that must continue then need their own pool.
public actor Consumer: Worker {
    private let log: BrokerLog
    private let queue: String
    private let configuration: ConsumerConfiguration
    private let pool: AMQPPool
    private let context: ChildContext
    private let stopRequest: StopRequest
    private let loop: ConsumerLoop
    private let runner: DeliveryRunner

    /// A delivery, and the known number of earlier attempts.
    fileprivate final class Arrival: DeliveredMessage {
        let delivery: Delivery
        let type: QueueArguments.QueueType?
        let attempts: DeliveryAttempts
        /// Whether this consumer has requeued it.
        let wasRequeued: Bool

        init(_ delivery: Delivery, from type: QueueArguments.QueueType?, wasRequeued: Bool) {
            self.delivery = delivery
            self.type = type
            self.wasRequeued = wasRequeued
            attempts = DeliveryAttempts(delivery, from: type, wasRequeued: wasRequeued)
        }
    }

    /// Creates one incarnation, in the start closure of a `Child`.
    /// ``Supervision/Child/consumer(_:of:on:configuration:restart:onOpen:handler:)`` also sets a `shutdown` that leaves time to drain.
    ///
    /// - Parameters:
    ///   - context: The child's context. Its path is the name under which the channel is kept for the next incarnation.
    ///   - queue: The queue to consume.
    ///   - pool: The pool whose connections to use. It may be started later, and restarted.
    ///   - configuration: The settings.
    ///   - onOpen: Declares what is needed, each time before consuming begins.
    ///   - handler: Called for each delivery, several concurrently. It is cancelled when its message no longer belongs to this consumer.
    public init(
        _ context: ChildContext,
        of queue: String,
        on pool: AMQPPool,
        configuration: ConsumerConfiguration = ConsumerConfiguration(),
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in },
        handler: @escaping @Sendable (Delivery) async throws -> Void
    ) {
        self.context = context
        self.pool = pool
        self.queue = queue
        self.configuration = configuration
        stopRequest = context.stopRequest
        let log = BrokerLog(
            .init(kind: "consumer", name: context.path, working: "consuming", connections: 1, opensConnections: false),
            logger: context.supervisor.logger
        )
        self.log = log
        let metrics = ConsumerMetrics(queue: queue, factory: pool.configuration.metricsFactory)
        let instruments = pool.instruments
        let failures = Failures(queue: queue, configuration: configuration, logger: context.logger, metrics: metrics)
        var engine = DeliveryCore.Settings()
        engine.concurrency = max(1, configuration.concurrency)
        engine.timeLimit = configuration.handlerTimeLimit
        var behavior = DeliveryRunner.Behavior { run in
            guard let arrival = run.first.message as? Arrival else { return [] }
            let attempt = run.first.attempt
            let begun = metrics == nil ? nil : ContinuousClock.now
            do {
                if let instruments {
                    try await instruments.handling(arrival.delivery, from: queue) { span in
                        do {
                            try await handler(arrival.delivery)
                        } catch {
                            span.fail("\(type(of: error))")
                            throw error
                        }
                    }
                } else {
                    try await handler(arrival.delivery)
                }
                failures.succeeded(arrival)
                if let begun { metrics?.ended("success", after: begun.duration(to: .now)) }
                return [.acknowledge]
            } catch {
                let disposition = failures.decide(arrival, attempt: attempt, error)
                if let begun { metrics?.ended(disposition.outcome, after: begun.duration(to: .now)) }
                return [disposition]
            }
        }
        behavior.publish = { try await pool.publish($0) }
        behavior.onTimeLimit = { item, _ in
            guard let arrival = item.message as? Arrival else { return .requeue(after: .zero) }
            return failures.decide(arrival, attempt: item.attempt, HandlerTimeLimitExceeded())
        }
        behavior.onEvent = { failures.note($0) }
        let runner = DeliveryRunner(engine, behavior: behavior)
        self.runner = runner
        var settings = ConsumerLoop.Settings(
            queue: queue,
            owner: context.path,
            prefetch: configuration.effectivePrefetch,
            backoff: configuration.reopenBackoff,
            log: log,
            onOpen: onOpen
        )
        settings.exclusive = configuration.exclusive
        settings.arguments = configuration.arguments
        settings.queueType = configuration.queueType
        settings.missingQueue = configuration.missingQueue
        settings.onConsuming = { type in
            failures.consuming(type)
            metrics?.prefetch(Int(configuration.effectivePrefetch))
        }
        let loop = ConsumerLoop(settings, pool: pool, runner: runner) { delivery, type in
            let arrival = Arrival(delivery, from: type, wasRequeued: failures.hasRequeued(delivery))
            var prepared = PreparedDelivery(arrival)
            prepared.attempt = arrival.attempts.number
            prepared.disposition = failures.decide(arrived: arrival)
            return prepared
        }
        self.loop = loop
        context.pid.onExit { loop.ended($0) }
    }

    /// Consumes until it is asked to stop, and then drains.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)`` for an invalid setting, and the errors that end consuming: see ``Consumer``.
    public func run() async throws {
        try configuration.check()
        log.handle(.started)
        try await consumeUntilStopped()
        log.handle(.stopping(inWork: runner.count))
        let drainTimeout = configuration.drainTimeout.bounded
        let deadline = ContinuousClock.now + drainTimeout
        runner.stopStarting()
        await loop.cancel(timeout: drainTimeout)
        runner.drain(finishing: false)
        if await !runner.idle(atMost: ContinuousClock.now.duration(to: deadline)) {
            context.logger.warning(
                "messages are not handled in time, and will be redelivered",
                metadata: ["queue": "\(queue)"]
            )
        }
        // A crash leaves the channel to the next incarnation.
        try Task.checkCancellation()
        await loop.close()
        log.handle(.stopped(.shutdown()))
    }

    private nonisolated func consumeUntilStopped() async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { [loop] in try await loop.run() }
            group.addTask { [stopRequest] in await stopRequest.wait() }
            defer { group.cancelAll() }
            try await group.next()
        }
        try Task.checkCancellation()
    }
}

/// The state of a consumer.
public enum ConsumerState: Sendable, Hashable {
    /// It is running, but not consuming: there is no connection, or the queue is missing or exclusively consumed by another.
    case waiting
    /// It is consuming its queue.
    case consuming
    /// It accepts no more deliveries, and waits for the running handlers.
    case stopping
}

extension Consumer: HealthReporting {
    /// The current state, read without an actor hop.
    public nonisolated var state: ConsumerState {
        if log.isStopping { return .stopping }
        return loop.look.isConsuming ? .consuming : .waiting
    }

    /// Whether it is consuming.
    public nonisolated var isReady: Bool { state == .consuming }

    /// Whether it works, and why not. Use it through a reference: `Health(of: pool, try shop.child("orders", as: Consumer.self))`.
    public nonisolated var health: Health.Part {
        switch state {
        case .consuming: .ready(context.path)
        case .waiting:
            .notReady(
                context.path,
                why: "\(queue) is not consumed: \(loop.look.interruption ?? pool.health.why ?? "it is being set up")"
            )
        case .stopping: .notReady(context.path, why: "stopping")
        }
    }
}

/// The error of a handler that was cancelled because it exceeded ``ConsumerConfiguration/handlerTimeLimit``.
struct HandlerTimeLimitExceeded: Error, CustomStringConvertible {
    var description: String { "the handler exceeded its time limit" }
}

extension Consumer {
    /// Decides about failed messages, and logs the decisions.
    fileprivate final class Failures: Sendable {
        private enum LogKind: Int, CaseIterable { case givenUp, notHandled, notPublished }

        private let queue: String
        private let configuration: ConsumerConfiguration
        private let logger: Logger
        private let inRow = Atomic(0)
        private let requeued = RequeuedMessages()
        private let log = BoundedLog(LogKind.self)
        private let hasWarned = Atomic(false)
        private let isStalled = Atomic(false)

        private let metrics: ConsumerMetrics?

        init(queue: String, configuration: ConsumerConfiguration, logger: Logger, metrics: ConsumerMetrics?) {
            self.metrics = metrics
            self.queue = queue
            self.configuration = configuration
            self.logger = logger
        }

        func succeeded(_ arrival: Arrival) {
            // Written only when it changes, because all handlers share it.
            if inRow.load(ordering: .relaxed) != 0 { inRow.store(0, ordering: .relaxed) }
            if arrival.wasRequeued { requeued.remove(arrival.delivery) }
        }

        func hasRequeued(_ delivery: Delivery) -> Bool { requeued.contains(delivery) }

        private func remember(_ disposition: Disposition, _ arrival: Arrival) {
            switch disposition {
            case .requeue: if !arrival.attempts.isCounted { requeued.insert(arrival.delivery) }
            case .acknowledge, .reject, .forward: if arrival.wasRequeued { requeued.remove(arrival.delivery) }
            case .retry, .settled: break
            }
        }

        /// Decides about a message that has been delivered too often to be tried again.
        func decide(arrived arrival: Arrival) -> Disposition? {
            guard let disposition = configuration.onFailure.decide(arrived: arrival.attempts) else { return nil }
            let reason = "delivered \(arrival.attempts.number - 1) times without completing"
            let final = giveUp(disposition, arrival, reason)
            log(
                .givenUp,
                .error,
                to: logger,
                "a message is given up",
                metadata(arrival, attempt: arrival.attempts.number, final, reason)
            )
            return final
        }

        func decide(_ arrival: Arrival, attempt: Int, _ error: any Error) -> Disposition {
            let failuresInRow = inRow.add(1, ordering: .relaxed).newValue
            let disposition: Disposition =
                error is UndecodableMessage
                ? .reject
                : configuration.onFailure.decide(
                    failed: arrival.attempts,
                    attempt: attempt,
                    redelivered: arrival.delivery.redelivered,
                    from: arrival.type,
                    failuresInRow: failuresInRow
                ) { configuration.retryBackoff.delay(afterFailures: $0, random: .random(in: 0..<1)) }
            let final = giveUp(disposition, arrival, "\(error)")
            remember(final, arrival)
            log(
                .notHandled,
                final.isFinal ? .error : .warning,
                to: logger,
                "a message could not be handled",
                metadata(arrival, attempt: attempt, final, "\(error)")
            )
            return final
        }

        /// The message's id, its attempt, and the decision, as log metadata.
        private func metadata(
            _ arrival: Arrival,
            attempt: Int,
            _ disposition: Disposition,
            _ error: String
        ) -> Logger.Metadata {
            let limit = configuration.onFailure.attempts.map { " of \($0)" } ?? ""
            return [
                "queue": "\(queue)",
                "message-id": "\(arrival.delivery.properties.messageID ?? "none")",
                "exchange": "\(arrival.delivery.exchange)",
                "routing-key": "\(arrival.delivery.routingKey)",
                "attempt": "\(attempt)\(limit)",
                "decision": "\(disposition.text)",
                "error": "\(error)",
            ]
        }

        private func giveUp(_ disposition: Disposition, _ arrival: Arrival, _ reason: String) -> Disposition {
            guard case .reject = disposition, let address = configuration.deadLetters else { return disposition }
            var properties = arrival.delivery.properties.forwarded
            properties.headers["failure-reason"] = .string(String(reason.prefix(500)))
            properties.headers["failure-queue"] = .string(queue)
            let forward = Forward(
                exchange: address.exchange,
                routingKey: address.routingKey,
                properties: properties,
                body: arrival.delivery.body
            )
            return .forward(forward)
        }

        /// Records that consuming has begun.
        func consuming(_ type: QueueArguments.QueueType?) {
            guard type != .quorum, type != .stream, !hasWarned.exchange(true, ordering: .relaxed) else { return }
            logger.warning(
                """
                deliveries of this queue are not counted, unless it is a quorum queue: a message that crashes this process \
                each time is redelivered forever. Declare it as a quorum queue with a delivery limit
                """,
                metadata: ["queue": "\(queue)"]
            )
        }

        func note(_ event: DeliveryRunner.Event) {
            switch event {
            case .began(let count): metrics?.began(count)
            case .tripped, .recovered, .idle: break
            case .zombies(let count):
                metrics?.zombies(count)
                let isTooMany = count > max(1, configuration.concurrency)
                guard isStalled.exchange(isTooMany, ordering: .relaxed) != isTooMany else { return }
                logger.error(
                    isTooMany
                        ? "too many handlers ignore their cancellation: no more are started until some have ended"
                        : "handling resumes",
                    metadata: ["queue": "\(queue)", "count": "\(count)"]
                )
            case .publishFailed(let forward, let error):
                log(
                    .notPublished,
                    .error,
                    to: logger,
                    "a message that was given up cannot be published; this is retried",
                    [
                        "queue": "\(queue)", "exchange": "\(forward.exchange)", "routing_key": "\(forward.routingKey)",
                        "error": "\(error)",
                    ]
                )
            }
        }
    }
}

extension MessageProperties {
    /// The properties for a copy that is published instead of the message, without those that would make the broker refuse it or route it
    /// elsewhere again.
    package var forwarded: MessageProperties {
        var copy = self
        // The broker requires our own user name there.
        copy.userID = nil
        // The copy would expire in the queue that is meant to keep it.
        copy.expiration = nil
        for header in Self.copyHeaders { copy.headers[header] = nil }
        return copy
    }
}

/// The error of a message that a typed consumer could not decode. It is rejected, whatever the policy, because a retry cannot succeed.
struct UndecodableMessage: Error {
    let reason: any Error
}

extension Child {
    /// A ``Consumer`` as a child, with a shutdown timeout that leaves time to drain.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings. With the supervisor's path, it is the name under which the channel is kept.
    ///   - queue: The queue to consume.
    ///   - pool: The pool whose connections to use. List it before its consumers, so that it is stopped after them.
    ///   - configuration: The settings.
    ///   - restart: When it is restarted.
    ///   - onOpen: Declares what is needed, each time before consuming begins.
    ///   - handler: Called for each delivery, several concurrently. It is cancelled when its message no longer belongs to this consumer.
    public static func consumer(
        _ id: String,
        of queue: String,
        on pool: AMQPPool,
        configuration: ConsumerConfiguration = ConsumerConfiguration(),
        restart: Restart = .permanent,
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in },
        handler: @escaping @Sendable (Delivery) async throws -> Void
    ) -> Child {
        Child(
            id,
            restart: restart,
            options: ChildOptions(shutdown: .timeout(configuration.drainTimeout.bounded + .seconds(10))),
            start: { context -> Consumer? in
                Consumer(
                    context,
                    of: queue,
                    on: pool,
                    configuration: configuration,
                    onOpen: onOpen,
                    handler: handler
                )
            }
        )
    }

    /// A ``Consumer`` of messages of one type. A message for which `decode` throws is rejected, and so dead-lettered if its queue has a
    /// dead letter exchange.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings.
    ///   - queue: The queue to consume.
    ///   - pool: The pool whose connections to use. List it before its consumers, so that it is stopped after them.
    ///   - configuration: The settings.
    ///   - restart: When it is restarted.
    ///   - onOpen: Declares what is needed, each time before consuming begins.
    ///   - decode: Decodes the message of a delivery.
    ///   - handler: Called for each message.
    public static func consumer<Message: Sendable>(
        _ id: String,
        of queue: String,
        on pool: AMQPPool,
        configuration: ConsumerConfiguration = ConsumerConfiguration(),
        restart: Restart = .permanent,
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in },
        decode: @escaping @Sendable (Delivery) throws -> Message,
        handler: @escaping @Sendable (Message, Delivery) async throws -> Void
    ) -> Child {
        consumer(id, of: queue, on: pool, configuration: configuration, restart: restart, onOpen: onOpen) { delivery in
            let message: Message
            do {
                message = try decode(delivery)
            } catch {
                throw UndecodableMessage(reason: error)
            }
            try await handler(message, delivery)
        }
    }
}

extension Disposition {
    /// The decision as text for logs.
    package var text: String {
        switch self {
        case .acknowledge: "it is acknowledged"
        case .reject: "it is rejected"
        case .settled: "it is settled"
        case .requeue(let pause): pause > .zero ? "it is redelivered after \(pause.text)" : "it is redelivered"
        case .retry(let pause): pause > .zero ? "it is retried after \(pause.text)" : "it is retried"
        case .forward(let forward):
            forward.exchange.isEmpty
                ? "it is moved to \(forward.routingKey)"
                : "it is published to \(forward.exchange), \(forward.routingKey)"
        }
    }

    /// Whether the message is not tried again.
    fileprivate var isFinal: Bool {
        switch self {
        case .acknowledge, .reject, .forward, .settled: true
        case .requeue, .retry: false
        }
    }

    /// The decision as one of a fixed set of values, for metrics.
    fileprivate var outcome: String {
        switch self {
        case .acknowledge, .settled: "success"
        case .requeue, .retry: "retry"
        case .reject: "reject"
        case .forward: "park"
        }
    }
}
