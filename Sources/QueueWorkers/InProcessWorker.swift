public import AMQPPool
internal import ConcurrencyPrimitives
import Logging
public import NIOCore
import RPCContract
public import Supervision
import Synchronization

/// A worker without a broker, for tests: the test delivers messages, and gets the outcome of each.
///
///     let worker = InProcessWorker(of: Order.self, from: "orders", retry: .after([.seconds(10)])) { order, context in
///         try await ship(order)
///     }
///     #expect(await worker.deliver(Order(number: 1)) == .handled)
///
/// It decides, decodes, times out, batches, orders and publishes with the same code as a ``QueueWorker``. It uses the given clock; with a
/// `ManualClock` the test controls the time.
public final class InProcessWorker: Sendable {
    /// The outcome of a message.
    public enum Outcome: Sendable, Hashable {
        /// It was acknowledged.
        case handled
        /// It waits for its next attempt, as at the broker. ``InProcessWorker/redeliver()`` delivers it.
        case delayed(Duration)
        /// It is kept in the queue of failed messages, for this reason.
        case parked(reason: String)
        /// Its type has no handler.
        case unhandled
        /// It was rejected.
        case rejected
        /// It was returned to the broker without being handled.
        case givenBack
    }

    /// A message that a handler published with its context.
    public struct Published: Sendable {
        /// The exchange; empty for a queue.
        public let exchange: String
        /// The routing key, or the queue.
        public let routingKey: String
        /// The message.
        public let body: ByteBuffer
        /// Its properties.
        public let properties: MessageProperties
    }

    private let queue: String
    private let runner: DeliveryRunner
    private let processing: MessageProcessing
    private let broker: Broker

    /// Creates a worker like ``Supervision/Child/worker(_:of:from:on:retry:configuration:restart:orderedBy:handler:)``.
    public convenience init<Message: Codable & Sendable & SendableMetatype>(
        of message: Message.Type = Message.self,
        from queue: String = "queue",
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        orderedBy: (@Sendable (Message) -> AnyHashable)? = nil,
        handler: @escaping @Sendable (Message, WorkerContext) async throws -> Void
    ) {
        let description = WorkerDescription(
            queues: [queue],
            retry: retry,
            configuration: configuration,
            handler: .each(JSONCodec<Message>(), configuration.interceptors, orderedBy, handler)
        )
        self.init(description, queue: queue, clock: clock)
    }

    /// Creates a worker of messages of several types.
    public convenience init(
        from queue: String = "queue",
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        handlers: [MessageHandler]
    ) {
        let description = WorkerDescription(
            queues: [queue],
            retry: retry,
            configuration: configuration,
            handler: .byType(handlers, configuration.interceptors)
        )
        self.init(description, queue: queue, clock: clock)
    }

    /// Creates a worker of batches.
    public convenience init<Message: Codable & Sendable & SendableMetatype>(
        batchesOf message: Message.Type,
        from queue: String = "queue",
        size: Int,
        within time: Duration,
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        clock: any SupervisionClock = SystemSupervisionClock.shared,
        batchedBy: (@Sendable (Message) -> AnyHashable)? = nil,
        handler: @escaping @Sendable (MessageBatch<Message>) async throws -> Void
    ) {
        var description = WorkerDescription(
            queues: [queue],
            retry: retry,
            configuration: configuration,
            handler: .batches(JSONCodec<Message>(), configuration.interceptors, batchedBy, handler)
        )
        description.batchSize = max(1, size)
        description.batchDelay = time
        self.init(description, queue: queue, clock: clock)
    }

    private init(_ description: WorkerDescription, queue: String, clock: any SupervisionClock) {
        self.queue = queue
        let broker = Broker(queue: queue)
        self.broker = broker
        let configuration = description.configuration
        processing = MessageProcessing(
            handler: description.handler,
            policy: WorkerPolicy(retry: description.retry, configuration: configuration, host: "in process"),
            logger: Logger(label: "worker"),
            handled: configuration.deduplication.map { HandledMessages($0) },
            metrics: nil,
            counters: WorkerCounters(),
            publish: { broker.published($0) }
        )
        runner = DeliveryRunner(
            description.engineSettings,
            clock: clock,
            behavior: processing.behavior { broker.forwarded($0) }
        )
        broker.open(on: runner)
    }

    /// Delivers a value as JSON, and returns its final outcome. That includes local retries, after delays shorter than a second.
    public func deliver<Message: Codable & Sendable & SendableMetatype>(
        _ value: Message,
        id: String? = nil,
        type: String? = nil,
        headers: FieldTable = FieldTable()
    ) async throws -> Outcome {
        let properties = MessageProperties(contentType: "application/json", headers: headers, messageID: id, type: type)
        return await deliver(try JSONCodec<Message>().encode(value), properties: properties)
    }

    /// Delivers bytes, and returns their final outcome.
    public func deliver(_ body: ByteBuffer, properties: MessageProperties = MessageProperties()) async -> Outcome {
        await broker.deliver(body, properties) { [runner, processing, queue] delivery, source in
            runner.deliver(
                processing.prepare(delivery, from: queue, .quorum),
                from: source,
                tag: delivery.deliveryTag
            )
        }
    }

    /// Delivers the messages that wait for their next attempt, one after another, and returns the outcome of each.
    public func redeliver() async -> [Outcome] {
        var outcomes: [Outcome] = []
        for message in broker.takeDelayed() {
            outcomes.append(await deliver(message.body, properties: message.properties))
        }
        return outcomes
    }

    /// The number of unsettled messages.
    public var unsettled: Int { runner.count }
    /// The contents of the queue of failed messages.
    public var parked: [Published] { broker.parked }
    /// The messages that successful handlers have published.
    public var published: [Published] { broker.allPublished }

    /// The stand-in for the broker.
    private final class Broker: DeliverySource {
        private struct State {
            var source: UInt64 = 0
            var lastTag: UInt64 = 0
            var waiting: [UInt64: OneShot<Outcome>] = [:]
            /// Outcomes by the delivery tag of the original message.
            var outcomes: [UInt64: Outcome] = [:]
            var delayed: [Published] = []
            var parked: [Published] = []
            var published: [Published] = []
        }

        /// The header of a copy with the delivery tag of the original.
        static let tagHeader = "in-process-tag"

        private let queue: String
        private let state = Mutex(State())

        init(queue: String) {
            self.queue = queue
        }

        func open(on runner: DeliveryRunner) {
            let source = runner.open(self, .queue)
            state.withLock { $0.source = source }
        }

        var parked: [Published] { state.withLock { $0.parked } }
        var allPublished: [Published] { state.withLock { $0.published } }

        func takeDelayed() -> [Published] {
            state.withLock { state in
                defer { state.delayed = [] }
                return state.delayed
            }
        }

        func deliver(
            _ body: ByteBuffer,
            _ properties: MessageProperties,
            _ send: @Sendable (Delivery, UInt64) -> Void
        ) async -> Outcome {
            let outcome = OneShot<Outcome>()
            var properties = properties
            let (tag, source) = state.withLock { state in
                state.lastTag += 1
                state.waiting[state.lastTag] = outcome
                return (state.lastTag, state.source)
            }
            properties.headers[Self.tagHeader] = .int64(Int64(clamping: tag))
            let delivery = Delivery(
                consumerTag: "in-process",
                deliveryTag: tag,
                redelivered: false,
                exchange: "",
                routingKey: queue,
                properties: properties,
                body: body
            )
            send(delivery, source)
            return await outcome.settled()
        }

        func published(_ message: OutgoingMessage) {
            let published = Published(
                exchange: message.exchange,
                routingKey: message.routingKey,
                body: message.body,
                properties: message.properties
            )
            state.withLock { $0.published.append(published) }
        }

        func forwarded(_ forward: Forward) {
            var properties = forward.properties
            guard case .int64(let number)? = properties.headers[Self.tagHeader], let tag = UInt64(exactly: number)
            else {
                return
            }
            properties.headers[Self.tagHeader] = nil
            let queue = queue
            state.withLock { [properties] state in
                var copy = Published(
                    exchange: forward.exchange,
                    routingKey: forward.routingKey,
                    body: forward.body,
                    properties: properties
                )
                if DelayQueue.isOne(forward.routingKey, of: queue) {
                    // What the broker writes when the message expires.
                    var headers = properties.headers
                    let death: FieldTable = ["queue": .string(forward.routingKey), "reason": "expired"]
                    headers["x-death"] = .array([.table(death)])
                    var delayed = properties
                    delayed.headers = headers
                    copy = Published(exchange: "", routingKey: queue, body: forward.body, properties: delayed)
                    state.delayed.append(copy)
                    let milliseconds = forward.routingKey.split(separator: ".").last.flatMap { Int64($0) } ?? 0
                    state.outcomes[tag] = .delayed(.milliseconds(milliseconds))
                } else if forward.routingKey.hasSuffix(".unhandled") {
                    state.outcomes[tag] = .unhandled
                } else {
                    state.parked.append(copy)
                    state.outcomes[tag] = .parked(reason: properties.headers.text(.failureReason) ?? "")
                }
            }
        }

        func settle(_ tag: UInt64, _ settlement: Settlement) {
            let (waiting, outcome) = state.withLock { state in
                let copy = state.outcomes.removeValue(forKey: tag)
                let outcome: Outcome =
                    switch settlement {
                    case .acknowledge: copy ?? .handled
                    case .reject: .rejected
                    case .requeue, .giveBack: .givenBack
                    }
                return (state.waiting.removeValue(forKey: tag), outcome)
            }
            waiting?.set(outcome)
        }
    }
}
