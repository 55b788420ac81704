internal import ConcurrencyPrimitives
import Logging
public import Supervision
import Synchronization

/// The fault-tolerant consumer: keeps a queue consumed, whatever becomes of connection, channel, queue, or itself.
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
/// A message is acknowledged when the handler returns; when it throws, ``ConsumerConfiguration/onFailure`` decides. At least
/// once: whatever was not acknowledged is delivered again.
///
/// | what happens | what it does |
/// |---|---|
/// | no connection | waits; that is no failure |
/// | the connection or the channel is lost | cancels the handlers that run, and goes on with another channel |
/// | the broker cancels the consumer (queue deleted, failover) | runs `onOpen` and consumes again, on the same channel |
/// | the queue is missing (404) | tries again, after a backoff; ``ConsumerConfiguration/missingQueue`` can set an end to that |
/// | the broker does not answer about the queue | tries again on another channel: from RabbitMQ 4.0 on that is what a queue whose node is down does |
/// | the queue is taken exclusively | tries again, after a backoff |
/// | the broker refuses what `onOpen` declares (403, 406), the first time | throws: a mistake in the configuration |
/// | it crashes or is killed, and restarts | gets the same channel back; what it had not acknowledged is requeued |
/// | a handler takes too long | cancels it, lets the next begin, and decides as if it had thrown |
/// | more handlers ignore their cancellation than may run | begins no more until some have ended |
/// | it is stopped | cancels the consumer, gives back what was not begun, waits for the handlers, acknowledges, closes the channel |
///
/// A handler must not wait for the consumer, or a supervisor above it, to stop: they wait for the handler. Stop from a task of its
/// own.
///
/// Its channel is its own, on a connection of the pool. The broker stops reading from a connection that publishes while it has
/// a memory alarm, and with it the acknowledgements: consumers that must go on then need a pool of their own.
public actor Consumer: Worker {
    private let log: BrokerLog
    private let queue: String
    private let configuration: ConsumerConfiguration
    private let pool: AMQPPool
    private let context: ChildContext
    private let stopRequest: StopRequest
    private let loop: ConsumerLoop
    private let runner: DeliveryRunner

    /// A delivery, and what is known of the attempts before.
    fileprivate final class Arrival: DeliveredMessage {
        let delivery: Delivery
        let type: QueueArguments.QueueType?
        let attempts: DeliveryAttempts

        init(_ delivery: Delivery, from type: QueueArguments.QueueType?) {
            self.delivery = delivery
            self.type = type
            attempts = DeliveryAttempts(delivery, from: type)
        }
    }

    /// One incarnation, for the start closure of a `Child`. ``Supervision/Child/consumer(_:of:on:configuration:restart:onOpen:handler:)``
    /// also sets a `shutdown` that leaves time to drain.
    ///
    /// - Parameters:
    ///   - context: the child's. Its path is the name under which the channel is kept for the next incarnation.
    ///   - queue: the queue to consume.
    ///   - pool: whose connections to use. It may be started later, and restart.
    ///   - configuration: the settings.
    ///   - onOpen: declares what is needed, before each time consuming begins.
    ///   - handler: called for each delivery, several at once. It is cancelled when its message is not ours any more.
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
                failures.succeeded()
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
            let arrival = Arrival(delivery, from: type)
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
    /// - Throws: ``AMQPError/invalidArgument(_:)`` for a setting that cannot be meant, and what ends consuming: see ``Consumer``.
    public func run() async throws {
        try configuration.check()
        log.handle(.started)
        try await consumeUntilStopped()
        log.handle(.stopping(inWork: runner.count))
        let drainTimeout = configuration.drainTimeout.bounded
        let deadline = ContinuousClock.now + drainTimeout
        runner.hold()
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

/// How a consumer is.
public enum ConsumerState: Sendable, Hashable {
    /// It runs, and its queue is not consumed: the broker is gone, or the queue is missing or taken.
    case waiting
    /// It gets messages of its queue.
    case consuming
    /// It takes nothing more, and waits for the handlers that run.
    case stopping
}

extension Consumer: HealthReporting {
    /// How it is now, asked without waiting for it.
    public nonisolated var state: ConsumerState {
        if log.isStopping { return .stopping }
        return loop.look.isConsuming ? .consuming : .waiting
    }

    /// Whether it gets messages of its queue.
    public nonisolated var isReady: Bool { state == .consuming }

    /// Whether it works, and if not, why. Through its reference: `Health(of: pool, try shop.child("orders", as: Consumer.self))`.
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

/// A handler was cancelled since it took longer than ``ConsumerConfiguration/handlerTimeLimit``.
struct HandlerTimeLimitExceeded: Error, CustomStringConvertible {
    var description: String { "the handler took longer than it may" }
}

extension Consumer {
    /// Decides what becomes of what was not handled, and says so.
    fileprivate final class Failures: Sendable {
        private enum LogKind: Int, CaseIterable { case givenUp, notHandled, notPublished }

        private let queue: String
        private let configuration: ConsumerConfiguration
        private let logger: Logger
        private let inRow = Atomic(0)
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

        func succeeded() {
            // Written only when it changes: it is shared by all handlers.
            if inRow.load(ordering: .relaxed) != 0 { inRow.store(0, ordering: .relaxed) }
        }

        /// Whether it was delivered too often to be tried again.
        func decide(arrived arrival: Arrival) -> Disposition? {
            guard let disposition = configuration.onFailure.decide(arrived: arrival.attempts) else { return nil }
            let reason = "delivered \(arrival.attempts.number - 1) times without an end"
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
            log(
                .notHandled,
                final.isFinal ? .error : .warning,
                to: logger,
                "a message could not be handled",
                metadata(arrival, attempt: attempt, final, "\(error)")
            )
            return final
        }

        /// Which message it is, which attempt of how many, and what becomes of it.
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

        /// Consuming has begun.
        func consuming(_ type: QueueArguments.QueueType?) {
            guard type != .quorum, type != .stream, !hasWarned.exchange(true, ordering: .relaxed) else { return }
            logger.warning(
                """
                nobody counts how often messages of this queue are delivered, unless it is a quorum queue: one that ends this process \
                each time is delivered for ever. Declare it as a quorum queue with a delivery limit
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
                        ? "too many handlers ignore their cancellation: nothing more is begun until some have ended"
                        : "handling goes on",
                    metadata: ["queue": "\(queue)", "count": "\(count)"]
                )
            case .publishFailed(let forward, let error):
                log(
                    .notPublished,
                    .error,
                    to: logger,
                    "a message that was given up cannot be published; it is tried again",
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
    /// What a copy of a message has, that is published in its place: not what would have the broker refuse it, or send it to others again.
    package var forwarded: MessageProperties {
        var copy = self
        // The broker demands our own name there.
        copy.userID = nil
        // It would run out where the copy is to be kept.
        copy.expiration = nil
        for header in Self.copyHeaders { copy.headers[header] = nil }
        return copy
    }
}

/// A message that the decoder of a typed consumer refused. It is rejected, whatever the policy: trying again changes nothing.
struct UndecodableMessage: Error {
    let reason: any Error
}

extension Child {
    /// A ``Consumer`` as a child, which is given the time to drain when it is stopped.
    ///
    /// - Parameters:
    ///   - id: unique among the siblings. With the path above it, the name under which its channel is kept.
    ///   - queue: the queue to consume.
    ///   - pool: whose connections to use. To be stopped after its consumers, it stands before them.
    ///   - configuration: the settings.
    ///   - restart: when it is started again.
    ///   - onOpen: declares what is needed, before each time consuming begins.
    ///   - handler: called for each delivery, several at once. It is cancelled when its message is not ours any more.
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

    /// A ``Consumer`` of messages of one type. A message that `decode` throws for is rejected, and so dead-lettered where its
    /// queue has an exchange for that.
    ///
    /// - Parameters:
    ///   - id: unique among the siblings.
    ///   - queue: the queue to consume.
    ///   - pool: whose connections to use. To be stopped after its consumers, it stands before them.
    ///   - configuration: the settings.
    ///   - restart: when it is started again.
    ///   - onOpen: declares what is needed, before each time consuming begins.
    ///   - decode: makes a message of a delivery.
    ///   - handler: called for each message.
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
    /// For people, in logs.
    package var text: String {
        switch self {
        case .acknowledge: "it is acknowledged"
        case .reject: "it is rejected"
        case .settled: "it is settled"
        case .requeue(let pause): pause > .zero ? "it is delivered again after \(pause.text)" : "it is delivered again"
        case .retry(let pause): pause > .zero ? "it is tried again after \(pause.text)" : "it is tried again"
        case .forward(let forward):
            forward.exchange.isEmpty
                ? "it is put into \(forward.routingKey)"
                : "it is published to \(forward.exchange), \(forward.routingKey)"
        }
    }

    /// Whether nobody tries it again.
    fileprivate var isFinal: Bool {
        switch self {
        case .acknowledge, .reject, .forward, .settled: true
        case .requeue, .retry: false
        }
    }

    /// What became of a message, in one word of a few, for metrics.
    fileprivate var outcome: String {
        switch self {
        case .acknowledge, .settled: "success"
        case .requeue, .retry: "retry"
        case .reject: "reject"
        case .forward: "park"
        }
    }
}
