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
/// | the queue is taken exclusively | tries again, after a backoff |
/// | the broker refuses what `onOpen` declares (403, 406), the first time | throws: a mistake in the configuration |
/// | it crashes or is killed, and restarts | gets the same channel back; what it had not acknowledged is requeued |
/// | it is stopped | cancels the consumer, gives back what was not begun, waits for the handlers, acknowledges, closes the channel |
///
/// A handler must not wait for the consumer, or a supervisor above it, to stop: they wait for the handler. Stop from a task of its
/// own.
///
/// Its channel is its own, on a connection of the pool. The broker stops reading from a connection that publishes while it has
/// a memory alarm, and with it the acknowledgements: consumers that must go on then need a pool of their own.
public actor Consumer: Worker {
    private let queue: String
    private let configuration: ConsumerConfiguration
    private let context: ChildContext
    private let stopRequest: StopRequest
    private let loop: ConsumerLoop
    private let handler: @Sendable (Delivery) async throws -> Void
    private nonisolated let failuresInRow = Atomic(0)

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
        self.queue = queue
        self.configuration = configuration
        self.handler = handler
        stopRequest = context.stopRequest
        var settings = ConsumerLoop.Settings(
            queue: queue,
            owner: context.path,
            prefetch: configuration.effectivePrefetch,
            backoff: configuration.reopenBackoff,
            onOpen: onOpen,
            logger: context.logger
        )
        settings.exclusive = configuration.exclusive
        settings.arguments = configuration.arguments
        settings.missingQueue = configuration.missingQueue
        if case .deadLetterAfter = configuration.onFailure { settings.confirms = true }
        let loop = ConsumerLoop(settings, pool: pool)
        self.loop = loop
        context.pid.onExit { loop.ended($0) }
    }

    /// Consumes until it is asked to stop, and then drains.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)`` at once when the configuration makes no sense.
    public func run() async throws {
        if let problem = configuration.problem { throw AMQPError.invalidArgument(problem) }
        try await withThrowingTaskGroup(of: Void.self) { handlers in
            for _ in 0..<max(1, configuration.concurrency) {
                handlers.addTask { await self.handleDeliveries() }
            }
            try await consumeUntilStopped()
            if await !loop.drain(timeout: configuration.drainTimeout) {
                context.logger.warning(
                    "messages are not handled in time, and will be redelivered",
                    metadata: ["queue": "\(queue)"]
                )
            }
            // A crash leaves the channel to the next incarnation.
            try Task.checkCancellation()
            await loop.close()
        }
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

    // MARK: Handling

    private nonisolated func handleDeliveries() async {
        while let unsettled = await loop.deliveries.next() { await handle(unsettled) }
    }

    private nonisolated func handle(_ unsettled: UnsettledDelivery) async {
        guard let task = unsettled.session.handle(unsettled.delivery, handler) else { return }
        let result = await withTaskCancellationHandler {
            await task.result
        } onCancel: {
            task.cancel()
        }
        switch result {
        case .success:
            failuresInRow.store(0, ordering: .relaxed)
            unsettled.acknowledge()
        case .failure(let error):
            // Its message goes to the next incarnation.
            guard !Task.isCancelled else { return }
            failed(unsettled, error)
        }
    }

    private nonisolated func failed(_ unsettled: UnsettledDelivery, _ error: any Error) {
        let failures = failuresInRow.add(1, ordering: .relaxed).newValue
        let decision: FailureDecision =
            error is UndecodableMessage
            ? .reject : configuration.onFailure.decide(unsettled.delivery, failuresInRow: failures)
        let delay: Duration =
            switch decision {
            case .acknowledge, .reject: .zero
            case .requeue(let attempt), .publishAgain(let attempt):
                configuration.retryBackoff.delay(afterFailures: attempt, random: .random(in: 0..<1))
            }
        context.logger.warning(
            "a message could not be handled",
            metadata: ["queue": "\(queue)", "error": "\(error)", "decision": "\(decision)", "delay": "\(delay)"]
        )
        unsettled.session.settle(unsettled.delivery, decision, from: queue, after: delay)
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
            shutdown: .timeout(configuration.drainTimeout + .seconds(10)),
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
