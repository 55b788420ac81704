public import AMQPPool
internal import ConcurrencyPrimitives
public import RPCContract
public import Supervision

extension Child {
    /// A worker of a queue of JSON messages of one type.
    ///
    ///     Child.worker(of: Order.self, from: "orders", on: pool, retry: .after([.seconds(10), .minutes(1)], then: .park)) { order, context in
    ///         try await ship(order)
    ///     }
    ///
    /// It declares what it needs and does not exist: the queue (a quorum queue with a delivery limit), one queue per delay between attempts
    /// (`orders.retry.10000`, in milliseconds), and `orders.failed`, which keeps messages that could not be handled, with the reason in
    /// their headers. Nothing is dropped unless ``WorkerRetry/Exhausted/discard`` or a ``FailureDecision/discard`` says so.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings; `nil` for the queue's name.
    ///   - message: The type of the messages.
    ///   - queue: The queue.
    ///   - pool: The pool whose connections to use. List it before its workers, so that it is stopped after them.
    ///   - retry: How often and when a message is tried, and what happens to it afterwards.
    ///   - configuration: The other settings.
    ///   - restart: When the worker is restarted.
    ///   - orderedBy: Messages of one key are handled one after another, in order of arrival; different keys are handled concurrently. It
    ///     is called when a message arrives, on the connection's event loop. With several workers on one queue, only the order of each
    ///     worker's messages is kept: declare the queue with a single active consumer then.
    ///   - handler: Handles a message. Its task is cancelled when the message no longer belongs to this worker.
    public static func worker<Message: Codable & Sendable & SendableMetatype>(
        _ id: String? = nil,
        of message: Message.Type = Message.self,
        from queue: String,
        on pool: AMQPPool,
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        restart: Restart = .permanent,
        orderedBy: (@Sendable (Message) -> AnyHashable)? = nil,
        handler: @escaping @Sendable (Message, WorkerContext) async throws -> Void
    ) -> Child {
        worker(
            id,
            from: [queue],
            on: pool,
            codec: JSONCodec<Message>(),
            retry: retry,
            configuration: configuration,
            restart: restart,
            orderedBy: orderedBy,
            handler: handler
        )
    }

    /// A worker of several queues with a custom codec, for example `.bytes` for raw messages. The queues share the limits.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings; `nil` for the first queue's name.
    ///   - queues: The queues.
    ///   - pool: The pool whose connections to use. List it before its workers, so that it is stopped after them.
    ///   - codec: How messages are decoded.
    ///   - retry: How often and when a message is tried, and what happens to it afterwards.
    ///   - configuration: The other settings.
    ///   - restart: When the worker is restarted.
    ///   - orderedBy: Messages of one key are handled one after another.
    ///   - handler: Handles a message.
    public static func worker<Codec: RPCCodec>(
        _ id: String? = nil,
        from queues: [String],
        on pool: AMQPPool,
        codec: Codec,
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        restart: Restart = .permanent,
        orderedBy: (@Sendable (Codec.Value) -> AnyHashable)? = nil,
        handler: @escaping @Sendable (Codec.Value, WorkerContext) async throws -> Void
    ) -> Child where Codec.Value: Sendable & SendableMetatype {
        let description = WorkerDescription(
            queues: queues,
            retry: retry,
            configuration: configuration,
            handler: .each(codec, configuration.interceptors, orderedBy, handler)
        )
        return worker(id, description, on: pool, restart: restart)
    }

    /// A worker of a queue with messages of several types, distinguished by the property `type`. A message of another type is moved to
    /// `<queue>.unhandled`.
    ///
    ///     Child.worker(from: "orders", on: pool, handlers: [
    ///         .json(Order.self, type: "order") { order, context in ... },
    ///         .json(Refund.self, type: "refund") { refund, context in ... },
    ///     ])
    ///
    /// The other parameters are those of ``worker(_:of:from:on:retry:configuration:restart:orderedBy:handler:)``.
    public static func worker(
        _ id: String? = nil,
        from queue: String,
        on pool: AMQPPool,
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        restart: Restart = .permanent,
        handlers: [MessageHandler]
    ) -> Child {
        let description = WorkerDescription(
            queues: [queue],
            retry: retry,
            configuration: configuration,
            handler: .byType(handlers, configuration.interceptors)
        )
        return worker(id, description, on: pool, restart: restart)
    }

    /// A worker that handles messages in batches of a maximum size, or of those that arrived within a time.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings; `nil` for the queue's name.
    ///   - message: The type of the messages.
    ///   - queue: The queue.
    ///   - pool: The pool whose connections to use. List it before its workers, so that it is stopped after them.
    ///   - size: The maximum number of messages in a batch.
    ///   - time: How long the first message of a batch waits for others.
    ///   - retry: How often and when a message is tried, and what happens to it afterwards. Messages that are retried locally form batches
    ///     of one.
    ///   - configuration: The other settings. The concurrency counts batches; the default prefetch is the number of messages in them.
    ///   - restart: When the worker is restarted.
    ///   - batchedBy: A batch contains messages of one key only.
    ///   - handler: Handles a batch; see ``MessageBatch``.
    public static func batchWorker<Message: Codable & Sendable & SendableMetatype>(
        _ id: String? = nil,
        of message: Message.Type = Message.self,
        from queue: String,
        on pool: AMQPPool,
        size: Int,
        within time: Duration,
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        restart: Restart = .permanent,
        batchedBy: (@Sendable (Message) -> AnyHashable)? = nil,
        handler: @escaping @Sendable (MessageBatch<Message>) async throws -> Void
    ) -> Child {
        batchWorker(
            id,
            from: [queue],
            on: pool,
            codec: JSONCodec<Message>(),
            size: size,
            within: time,
            retry: retry,
            configuration: configuration,
            restart: restart,
            batchedBy: batchedBy,
            handler: handler
        )
    }

    /// A worker of several queues that handles messages in batches with a custom codec, for example `.bytes` for raw messages. A batch may
    /// contain messages of several queues.
    ///
    /// The other parameters are those of ``batchWorker(_:of:from:on:size:within:retry:configuration:restart:batchedBy:handler:)``.
    public static func batchWorker<Codec: RPCCodec>(
        _ id: String? = nil,
        from queues: [String],
        on pool: AMQPPool,
        codec: Codec,
        size: Int,
        within time: Duration,
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        restart: Restart = .permanent,
        batchedBy: (@Sendable (Codec.Value) -> AnyHashable)? = nil,
        handler: @escaping @Sendable (MessageBatch<Codec.Value>) async throws -> Void
    ) -> Child where Codec.Value: Sendable & SendableMetatype {
        var description = WorkerDescription(
            queues: queues,
            retry: retry,
            configuration: configuration,
            handler: .batches(codec, configuration.interceptors, batchedBy, handler)
        )
        description.batchSize = size
        description.batchDelay = time
        return worker(id, description, on: pool, restart: restart)
    }

    /// A worker of the events of a type, published with ``AMQPPool/AMQPPool/publish(_:timeout:)``.
    ///
    /// - Parameters:
    ///   - id: Unique among the siblings; `nil` for the queue's name.
    ///   - event: The type of the events.
    ///   - subscriber: Who subscribes. See ``EventSubscriber``.
    ///   - pool: The pool whose connections to use. List it before its workers, so that it is stopped after them.
    ///   - retry: How often and when an event is tried, and what happens to it afterwards.
    ///   - configuration: The other settings.
    ///   - restart: When the worker is restarted.
    ///   - handler: Handles an event.
    public static func subscriber<Event: QueueEvent & SendableMetatype>(
        _ id: String? = nil,
        to event: Event.Type = Event.self,
        as subscriber: EventSubscriber,
        on pool: AMQPPool,
        retry: WorkerRetry = .standard,
        configuration: WorkerConfiguration = WorkerConfiguration(),
        restart: Restart = .permanent,
        handler: @escaping @Sendable (Event, WorkerContext) async throws -> Void
    ) -> Child {
        var description = WorkerDescription(
            queues: [subscriber.queue(for: Event.eventName)],
            retry: subscriber.isInstance
                ? .after(retry.pauses.map { min($0, .milliseconds(999)) }, then: .park) : retry,
            configuration: configuration,
            handler: .each(JSONCodec<Event>(), configuration.interceptors, nil, handler)
        )
        description.bindings = [(EventExchange.name, Event.eventName)]
        description.isTransient = subscriber.isInstance
        description.keepsFailedIn = subscriber.failedQueue(for: Event.eventName)
        return worker(id, description, on: pool, restart: restart)
    }

    private static func worker(
        _ id: String?,
        _ description: WorkerDescription,
        on pool: AMQPPool,
        restart: Restart
    ) -> Child {
        // A slash would split a path.
        let name = id ?? (description.queues.first ?? "worker").split(separator: "/").joined(separator: "-")
        return Child(
            name,
            restart: restart,
            options: ChildOptions(shutdown: .timeout(description.configuration.drainTimeout.bounded + .seconds(10))),
            start: { context -> QueueWorker? in QueueWorker(context, description, on: pool) }
        )
    }
}

/// Who gets the events of a type.
public enum EventSubscriber: Sendable, Hashable {
    /// A service: each event goes to one of its instances, including events published while none is running. Queue
    /// `<service>.events.<event>`.
    case service(String)
    /// This instance of a service: each event goes to every running instance. Its queue is deleted when it ends; it does not get events
    /// published while it is not running, and delays between attempts are shorter than a second. Queue
    /// `<service>.events.<event>.<instance>`; failed events are kept in `<service>.events.<event>.failed`.
    case instance(of: String, name: String)

    func queue(for event: String) -> String {
        switch self {
        case .service(let service): "\(service).events.\(event)"
        case .instance(let service, let name): "\(service).events.\(event).\(name)"
        }
    }

    /// The service's queue, also for an instance: one of its own would be left behind.
    func failedQueue(for event: String) -> String {
        switch self {
        case .service(let service), .instance(let service, _): "\(service).events.\(event).failed"
        }
    }

    var isInstance: Bool {
        if case .instance = self { true } else { false }
    }
}

/// The handler for messages of one type, in a worker of several types.
public struct MessageHandler: Sendable {
    let type: String
    let decode: @Sendable (Delivery) -> Result<any Sendable, WorkerError>
    let handle: @Sendable (any Sendable, WorkerContext) async throws -> Void

    /// Handles JSON messages with this property `type`.
    public static func json<Message: Codable & Sendable & SendableMetatype>(
        _ message: Message.Type,
        type: String,
        handler: @escaping @Sendable (Message, WorkerContext) async throws -> Void
    ) -> MessageHandler {
        MessageHandler(
            type: type,
            decode: WorkerHandler.decoder(JSONCodec<Message>()),
            handle: { value, context in
                if let value = value as? Message { try await handler(value, context) }
            }
        )
    }
}

extension WorkerHandler {
    static func decoder<Codec: RPCCodec>(
        _ codec: Codec
    ) -> @Sendable (Delivery) -> Result<any Sendable, WorkerError> where Codec.Value: Sendable & SendableMetatype {
        { delivery in
            if let type = delivery.properties.contentType, !codec.accepts(type) {
                return .failure(.undecodable("the content type is \(type.prefix(100)), not \(codec.contentType)"))
            }
            do {
                return .success(try codec.decode(delivery.body))
            } catch {
                return .failure(.undecodable("\(error)"))
            }
        }
    }

    static func each<Codec: RPCCodec>(
        _ codec: Codec,
        _ interceptors: [any WorkerInterceptor],
        _ key: (@Sendable (Codec.Value) -> AnyHashable)?,
        _ handler: @escaping @Sendable (Codec.Value, WorkerContext) async throws -> Void
    ) -> WorkerHandler where Codec.Value: Sendable & SendableMetatype {
        var result = WorkerHandler(decode: decoder(codec)) { inputs in
            var errors: [(any Error)?] = []
            for input in inputs {
                errors.append(
                    await failure(input.context, interceptors) {
                        if let value = input.value as? Codec.Value { try await handler(value, input.context) }
                    }
                )
            }
            return errors
        }
        result.setKey(key)
        result.isOrdered = key != nil
        return result
    }

    static func byType(_ handlers: [MessageHandler], _ interceptors: [any WorkerInterceptor]) -> WorkerHandler {
        let byType = Dictionary(handlers.map { ($0.type, $0) }) { first, _ in first }
        var result = WorkerHandler(
            decode: { delivery in
                guard let handler = byType[delivery.properties.type ?? ""] else {
                    return .failure(.undecodable("the type has no handler"))
                }
                return handler.decode(delivery)
            },
            handle: { inputs in
                var errors: [(any Error)?] = []
                for input in inputs {
                    errors.append(
                        await failure(input.context, interceptors) {
                            try await byType[input.context.properties.type ?? ""]?.handle(input.value, input.context)
                        }
                    )
                }
                return errors
            }
        )
        result.handlesType = { byType[$0.properties.type ?? ""] != nil }
        result.hasTypes = true
        if handlers.isEmpty {
            result.problem = "a worker needs a handler: handlers is empty"
        } else if byType.count < handlers.count {
            let types = handlers.map(\.type)
            let twice = Set(types.filter { type in types.count { $0 == type } > 1 }).sorted()
            result.problem = "handlers has more than one for the type \(twice.joined(separator: ", "))"
        }
        return result
    }

    static func batches<Codec: RPCCodec>(
        _ codec: Codec,
        _ interceptors: [any WorkerInterceptor],
        _ key: (@Sendable (Codec.Value) -> AnyHashable)?,
        _ handler: @escaping @Sendable (MessageBatch<Codec.Value>) async throws -> Void
    ) -> WorkerHandler where Codec.Value: Sendable & SendableMetatype {
        let handle: Handle = { inputs in
            let batch = MessageBatch<Codec.Value>(inputs)
            do {
                try await handler(batch)
                return batch.outcome(nil)
            } catch {
                return batch.outcome(error)
            }
        }
        var result = WorkerHandler(decode: decoder(codec)) { inputs in
            guard !interceptors.isEmpty || WorkerTracing.isOn else { return await handle(inputs) }
            return await gathered(inputs, interceptors, handle)
        }
        result.setKey(key)
        return result
    }

    /// Handles a batch within the span and interceptors of each message, concurrently: the batch begins when the last interceptor has
    /// called its `next` or ended without.
    private static func gathered(
        _ inputs: [Input],
        _ interceptors: [any WorkerInterceptor],
        _ handle: @escaping Handle
    ) async -> [(any Error)?] {
        let barrier = BatchBarrier(inputs.count)
        return await withTaskGroup(of: (index: Int, error: (any Error)?).self) { group in
            for (index, input) in inputs.enumerated() {
                group.addTask {
                    let error = await failure(input.context, interceptors) {
                        input.context.outbox.useCurrentTrace()
                        try await barrier.arriveAndWait(index)
                    }
                    barrier.deregister(index)
                    return (index, error)
                }
            }
            if let present = await barrier.arrived() {
                barrier.release(zip(present, await handle(present.map { inputs[$0] })))
            }
            var errors = [(any Error)?](repeating: nil, count: inputs.count)
            for await (index, error) in group { errors[index] = error }
            return errors
        }
    }

    private mutating func setKey<Value: Sendable & SendableMetatype>(_ key: (@Sendable (Value) -> AnyHashable)?) {
        guard let key else { return }
        self.key = { value in (value as? Value).map(key) ?? AnyHashable(0) }
    }

    /// Runs a handler within its span and its interceptors.
    private static func failure(
        _ context: WorkerContext,
        _ interceptors: [any WorkerInterceptor],
        _ body: @escaping @Sendable () async throws -> Void
    ) async -> (any Error)? {
        do {
            try await WorkerTracing.withSpan(of: context) {
                try await intercepted(context, interceptors[...], body)
            }
            return nil
        } catch {
            return error
        }
    }

    private static func intercepted(
        _ context: WorkerContext,
        _ interceptors: ArraySlice<any WorkerInterceptor>,
        _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        guard let first = interceptors.first else { return try await body() }
        try await first.intercept(context) {
            try await intercepted(context, interceptors.dropFirst(), body)
        }
    }
}
