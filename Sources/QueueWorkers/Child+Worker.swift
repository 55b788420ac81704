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
    /// It declares what it needs and is not there: the queue (a quorum queue with a delivery limit), a queue for each pause between
    /// attempts (`orders.retry.10000`, in milliseconds), and `orders.failed`, where what could not be handled is kept, with the reason in
    /// its headers. Nothing is dropped unless ``WorkerRetry/Exhausted/discard`` or a ``FailureDecision/discard`` says so.
    ///
    /// - Parameters:
    ///   - id: unique among the siblings; nil is the queue's name.
    ///   - message: the type of the messages.
    ///   - queue: the queue.
    ///   - pool: whose connections to use. To be stopped after its workers, it stands before them.
    ///   - retry: how often a message is tried, when, and what becomes of it.
    ///   - configuration: the other settings.
    ///   - restart: when the worker is started again.
    ///   - orderedBy: messages of one key are handled one after another, in the order in which they came, keys side by side. It is called as a
    ///     message comes, on the connection's event loop, and with several workers on one queue it keeps the order of each worker's messages
    ///     only: declare the queue with a single active consumer then.
    ///   - handler: handles a message. Its task is cancelled when the message is not its own any more.
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

    /// A worker of several queues, with a codec of one's own: `.bytes` for raw messages. All have the same limits, together.
    ///
    /// - Parameters:
    ///   - id: unique among the siblings; nil is the first queue's name.
    ///   - queues: the queues.
    ///   - pool: whose connections to use. To be stopped after its workers, it stands before them.
    ///   - codec: how messages are read.
    ///   - retry: how often a message is tried, when, and what becomes of it.
    ///   - configuration: the other settings.
    ///   - restart: when the worker is started again.
    ///   - orderedBy: messages of one key are handled one after another.
    ///   - handler: handles a message.
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

    /// A worker of a queue with messages of several types, told apart by the property `type`. A message of another type is put into
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

    /// A worker that handles messages in batches: so many, or as many as have come in a time.
    ///
    /// - Parameters:
    ///   - id: unique among the siblings; nil is the queue's name.
    ///   - message: the type of the messages.
    ///   - queue: the queue.
    ///   - pool: whose connections to use. To be stopped after its workers, it stands before them.
    ///   - size: how many messages a batch has at the most.
    ///   - time: how long its first message waits for others.
    ///   - retry: how often a message is tried, when, and what becomes of it. Those that are tried again here come in batches of one.
    ///   - configuration: the other settings. The concurrency is that of batches, the default prefetch as many messages as they hold.
    ///   - restart: when the worker is started again.
    ///   - batchedBy: a batch holds messages of one key only.
    ///   - handler: handles a batch; see ``MessageBatch``.
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

    /// A worker of several queues that handles messages in batches, with a codec of one's own: `.bytes` for raw messages. A batch may hold
    /// messages of several queues.
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

    /// A worker of the events of a type, which others publish with ``AMQPPool/AMQPPool/publish(_:timeout:)``.
    ///
    /// - Parameters:
    ///   - id: unique among the siblings; nil is the queue's name.
    ///   - event: the type.
    ///   - subscriber: who subscribes. See ``EventSubscriber``.
    ///   - pool: whose connections to use. To be stopped after its workers, it stands before them.
    ///   - retry: how often an event is tried, when, and what becomes of it.
    ///   - configuration: the other settings.
    ///   - restart: when the worker is started again.
    ///   - handler: handles an event.
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
        // A slash would divide a path.
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
    /// A service: each event goes to one of its instances, also what comes while none is there. Queue `<service>.events.<event>`.
    case service(String)
    /// This instance of a service: each event goes to every instance that is there. Its queue goes away with it; what comes while it is not
    /// there is not for it, and pauses between attempts are shorter than a second. Queue `<service>.events.<event>.<instance>`; what fails is
    /// kept in `<service>.events.<event>.failed`.
    case instance(of: String, name: String)

    func queue(for event: String) -> String {
        switch self {
        case .service(let service): "\(service).events.\(event)"
        case .instance(let service, let name): "\(service).events.\(event).\(name)"
        }
    }

    /// That of the service, also for an instance: its own would be left behind.
    func failedQueue(for event: String) -> String {
        switch self {
        case .service(let service), .instance(let service, _): "\(service).events.\(event).failed"
        }
    }

    var isInstance: Bool {
        if case .instance = self { true } else { false }
    }
}

/// Handles the messages of one type, in a worker of several.
public struct MessageHandler: Sendable {
    let type: String
    let decode: @Sendable (Delivery) -> Result<any Sendable, WorkerError>
    let handle: @Sendable (any Sendable, WorkerContext) async throws -> Void

    /// JSON messages whose property `type` is this.
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
                    return .failure(.undecodable("nobody handles the type"))
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

    /// Handles a batch with the span and the interceptors of each message around it: side by side, and the batch begins when the last of
    /// them has called its `next`, or ended without.
    private static func gathered(
        _ inputs: [Input],
        _ interceptors: [any WorkerInterceptor],
        _ handle: @escaping Handle
    ) async -> [(any Error)?] {
        let gathering = BatchGathering(inputs.count)
        return await withTaskGroup(of: (index: Int, error: (any Error)?).self) { group in
            for (index, input) in inputs.enumerated() {
                group.addTask {
                    let error = await failure(input.context, interceptors) {
                        input.context.outbox.useCurrentTrace()
                        try await gathering.join(index)
                    }
                    gathering.leave(index)
                    return (index, error)
                }
            }
            if let present = await gathering.all() {
                gathering.end(zip(present, await handle(present.map { inputs[$0] })))
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
