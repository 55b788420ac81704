internal import ConcurrencyPrimitives
public import Logging
public import NIOCore
public import ServiceLifecycle
public import Supervision
import Synchronization
import Tracing

/// Supervised connections and channels to a RabbitMQ broker.
///
///     let pool = AMQPPool(endpoints: ["amqp://guest:guest@127.0.0.1:5672"]) { channel in
///         try await channel.declareQueue("orders", durable: true)
///     }
///     try await pool.start()
///     try await pool.publish(ByteBuffer(string: "42"), routingKey: "orders", mandatory: true)
///     await pool.stop()
///
/// It starts immediately and connects in the background. Failures of the broker and the network are also repaired in the background: an
/// operation waits for a channel until its timeout at most, and then throws why there is none. A pool is a `Service`; to make it part of a
/// larger tree, list its ``supervisor`` among another supervisor's children.
public final class AMQPPool: Service, Sendable {
    /// The pool's supervision tree.
    public let supervisor: Supervisor
    /// Runs tasks on the event loop of the pool's connections, for code that exchanges very many small messages: a message is written by
    /// the thread that created it, and its outcome resumes the waiting task without waking another thread.
    ///
    ///     try await withTaskExecutorPreference(pool.executor) {
    ///         for order in orders { try await pool.publish(order, routingKey: "orders") }
    ///     }
    ///
    /// Code on this executor must be short and never block: while it runs, the connections process nothing, neither deliveries nor
    /// heartbeats. A part of a task that holds the event loop for more than 5 ms is logged as a warning, at most once a minute. The event
    /// loop group must outlive the tasks: after a custom group is shut down they are never resumed. With
    /// ``PoolConfiguration/spreadsOverEventLoops`` this is one of several event loops.
    public let executor: any TaskExecutor
    package let configuration: PoolConfiguration
    /// The connections, for callers and receivers that share this pool and open their channels on them.
    package let leases: ConnectionLeases
    let registry: CurrentIncarnation<ChannelRegistry>
    private let dedicatedChannels: ConcurrencyLimit
    private let publishScreen = PublishScreen()
    /// The consumers' channels; they outlive consumers and the processes of the pool, but not their connection.
    let keptChannels = KeptChannels()
    let logger: Logger
    /// The pool's metrics and tracer, if any.
    let metrics: PoolMetrics?
    let instruments: Instruments?
    let stateBroadcast = StateBroadcast(PoolState.stopped)

    /// Creates a pool; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - endpoints: The brokers to connect to, tried round robin.
    ///   - connections: The number of connections.
    ///   - channelsPerConnection: The number of channels per connection.
    ///   - logger: The logger of the whole pool.
    ///   - onOpen: Sets up each new channel before it is used: declares, consumes. It runs again whenever a channel is reopened. If the
    ///     broker refuses its first run (403, 406), the pool ends: ``run()`` throws.
    public convenience init(
        endpoints: [Endpoint],
        connections: Int = 2,
        channelsPerConnection: Int = 1,
        logger: Logger? = nil,
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in }
    ) {
        var configuration = PoolConfiguration(endpoints: endpoints)
        configuration.connections = connections
        configuration.channelsPerConnection = channelsPerConnection
        self.init(configuration: configuration, logger: logger, onOpen: onOpen)
    }

    /// Creates a pool with these settings; nothing runs before ``start()`` or ``run()``.
    public init(
        _ name: String = "amqp-pool",
        configuration: PoolConfiguration,
        logger: Logger? = nil,
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in }
    ) {
        var configuration = configuration.withEventLoop()
        metrics = PoolMetrics(pool: name, factory: configuration.metricsFactory)
        instruments = configuration.tracing.resolved
        configuration.connection.metrics = metrics
        self.configuration = configuration
        let logger = logger ?? Logger(label: name)
        self.logger = logger
        executor = EventLoopExecutor(configuration.connection.eventLoopGroup.next(), logger: logger)
        let leases = ConnectionLeases(count: configuration.connectionCount)
        self.leases = leases
        dedicatedChannels = ConcurrencyLimit(configuration.maximumDedicatedChannels)
        // There is one waiter per task that uses the pool.
        let current = CurrentIncarnation<ChannelRegistry>(limit: .max)
        registry = current
        let states = stateBroadcast
        let (metrics, settings) = (metrics, configuration)
        let log = BrokerLog(
            .init(kind: "pool", name: name, connections: configuration.allConnectionCount),
            logger: self.logger,
            inWork: { current.value?.channels.reduce(0) { $0 + $1.outbox.size.entries } }
        )
        supervisor = Supervisor(name, strategy: .oneForAll, logger: logger) {
            Child("registry") { context -> ChannelRegistry? in
                log.use(context.supervisor.logger)
                let registry = ChannelRegistry(
                    log: log,
                    metrics: metrics,
                    publishing: settings.connectionCount,
                    hasConsumers: settings.allConnectionCount > settings.connectionCount,
                    onChange: { states.update { current.poolState } }
                )
                guard current.claim(registry, in: context) else {
                    throw AMQPError.invalidArgument(
                        "the pool \"\(name)\" is already running: start it, or make its supervisor a child of one tree, not both"
                    )
                }
                states.update { current.poolState }
                // In this order: callers that are notified of the end must not find the registry again.
                context.pid.onExit { _ in
                    current.clear(registry)
                    states.update { current.poolState }
                }
                registry.ends(with: context.pid)
                return registry
            }
            Supervisor.pool(
                configuration: settings,
                source: .own(leases),
                registry: { context in
                    guard let pool = context.supervisor.ancestor(named: name) else {
                        throw CallError.noProcess(child: "registry")
                    }
                    return try pool.child("registry", as: ChannelRegistry.self).resolve()
                },
                onOpen: { channel, _ in try await onOpen(channel) }
            )
        }
        .observed(log.follow)
        supervisor.onRootPhase { current.follow($0) }
    }

    /// Starts the tree; connecting continues in the background. See ``waitUntilReady(timeout:)``.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)`` or ``AMQPError/tooFewChannels(endpoint:limit:needed:)``, inside the error of the tree,
    ///   when the settings are invalid; or an error of the tree when the pool is already running, by itself or as part of a tree.
    public func start() async throws {
        try await supervisor.start()
    }

    /// Runs until the surrounding task is cancelled or shut down gracefully. Throws why the pool gave up, if it did, and the errors of
    /// ``start()``.
    public func run() async throws {
        try await supervisor.run()
    }

    /// Stops the pool in order: closes the channels, then the connections.
    public func stop() async {
        registry.stop()
        await supervisor.stop()
    }

    /// Waits until a channel is ready.
    ///
    /// - Throws: ``AMQPError/notConnected(_:)`` with the failure at each endpoint (refused, TLS, credentials, virtual host, set-up),
    ///   ``AMQPError/blocked(reason:)``, ``AMQPError/poolNotRunning`` or ``AMQPError/cancelled(operation:)``; each inside
    ///   ``AMQPError/notSent(_:)``. None contains a credential.
    public func waitUntilReady(timeout: Duration = .seconds(10)) async throws(AMQPError) {
        _ = try await channel(before: .now + timeout.bounded)
    }

    /// Runs the body with a ready channel of the pool: to declare, bind, consume. The channel is shared, and an operation that the broker
    /// refuses closes it for all users; it is reopened. See also ``withDedicatedChannel(timeout:isolation:_:)``.
    ///
    /// - Parameters:
    ///   - timeout: How long to wait for a channel; `nil` for ``ConnectionConfiguration/operationTimeout``.
    ///   - isolation: The isolation of the body: the caller's.
    ///   - body: What to do with the channel.
    @discardableResult
    public func withChannel<Result: Sendable>(
        timeout: Duration? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPChannel) async throws -> Result
    ) async throws -> Result {
        try await body(channel(before: .now + (timeout ?? operationTimeout).bounded))
    }

    /// Replaces the secret on all open connections, before it expires; see ``AMQPConnection/updateSecret(_:reason:timeout:)``. Later
    /// connections take theirs from the endpoint or the ``CredentialsProvider``, which must return the new one by then.
    ///
    /// - Throws: The first error, after the attempt on every connection.
    public func updateSecret(
        _ secret: String,
        reason: String = "the secret is renewed",
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let connections = registry.value?.openConnections ?? []
        let errors = await withTaskGroup(of: AMQPError?.self) { group in
            for connection in connections {
                group.addTask {
                    do throws(AMQPError) {
                        try await connection.updateSecret(secret, reason: reason, timeout: timeout)
                        return nil
                    } catch {
                        return error
                    }
                }
            }
            return await group.reduce(into: [AMQPError]()) { errors, error in
                if let error { errors.append(error) }
            }
        }
        if let error = errors.first { throw error }
    }

    /// The current state of the pool; ``states`` has the changes.
    public var state: PoolState { registry.poolState }

    /// Whether a channel is ready.
    public var isReady: Bool { state == .ready }

    /// Why there is no connection at present.
    var reasonForNoConnection: AMQPError { registry.value?.reasonForNone ?? .poolNotRunning }

    /// A connection for consuming that is open and not blocked; `nil` when there is none in time.
    func connection(within timeout: Duration) async throws -> AMQPConnection? {
        let deadline = ContinuousClock.now + timeout.bounded
        do throws(AMQPError) {
            return try await nextConnection(for: .consuming, before: deadline)
        } catch {
            try Task.checkCancellation()
            // After a deliberate stop the wait fails immediately; the pool may be started again.
            try await Task.sleep(for: min(max(.zero, ContinuousClock.now.duration(to: deadline)), .milliseconds(100)))
            return nil
        }
    }

    private func channel(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        // Fast path without waiting.
        if let channel = registry.value?.pick() { return channel }
        return try await registry.wait(before: deadline) { registry throws(AMQPError) in
            try await registry.next(before: deadline)
        }
    }

    private func nextConnection(
        for use: ChannelRegistry.Use = .everything,
        before deadline: ContinuousClock.Instant
    ) async throws(AMQPError) -> AMQPConnection {
        try await registry.wait(before: deadline) { registry throws(AMQPError) in
            try await registry.nextConnection(for: use, before: deadline)
        }
    }

    /// The number of tasks that wait for a channel or a connection.
    var waiting: Int { registry.value?.waiting ?? 0 }

    private var operationTimeout: Duration { configuration.connection.operationTimeout }
}

extension SupervisorReference {
    /// The nearest supervisor with this name, from this one up.
    fileprivate func ancestor(named name: String) -> SupervisorReference? {
        var current: SupervisorReference? = self
        while let supervisor = current, supervisor.name != name { current = supervisor.parent }
        return current
    }
}

extension AMQPPool: HealthReporting {
    /// The open connections, each with its endpoint and its broker: ``AMQPConnection/endpoint`` and ``AMQPConnection/broker``.
    public var connections: [AMQPConnection] { registry.value?.openConnections ?? [] }

    /// Whether the pool works, and if not, which attempts failed.
    public var health: Health.Part {
        let name = supervisor.name
        return switch state {
        case .ready: .ready(name)
        case .blocked, .connecting: .notReady(name, why: "\(registry.value?.reasonForNone ?? .poolNotRunning)")
        case .stopped: .absent(name, because: registry.ended)
        }
    }
}

extension AMQPPool {
    /// Publishes a message on any ready channel and waits until the broker has confirmed it.
    ///
    /// The broker closes the channel of a message that it refuses. To protect other messages, the first message to each exchange is
    /// published on a separate channel, which costs two round trips once, and so is each message after a refusal: one at a time, with a
    /// delay of up to a second, until the broker accepts it. Similar messages wait for that outcome, and share a refusal.
    ///
    /// - Parameters:
    ///   - body: The message; at most ``ConnectionConfiguration/maximumMessageSize`` bytes.
    ///   - properties: Its properties.
    ///   - exchange: The exchange; empty for the default exchange, which routes by queue name.
    ///   - routingKey: The routing key.
    ///   - mandatory: Whether a message that cannot be routed to a queue is an error.
    ///   - timeout: The time limit for the channel and the confirm together; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Throws: The errors of ``AMQPChannel/publish(_:properties:exchange:routingKey:mandatory:timeout:)`` and
    ///   ``waitUntilReady(timeout:)``. A message that was not written before its channel was lost is published on another one, within the
    ///   timeout; a written message is never sent again.
    public func publish(
        _ body: ByteBuffer,
        properties: MessageProperties = MessageProperties(),
        exchange: String = "",
        routingKey: String,
        mandatory: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let timeout = (timeout ?? operationTimeout).bounded
        let message = OutgoingMessage(
            body,
            properties: properties,
            exchange: exchange,
            routingKey: routingKey,
            mandatory: mandatory
        )
        try await publishObserved(message, before: .now + timeout, timeout)
    }

    /// Publishes within a span and records metrics, where they are enabled.
    private func publishObserved(
        _ message: OutgoingMessage,
        before deadline: ContinuousClock.Instant,
        _ timeout: Duration
    ) async throws(AMQPError) {
        guard metrics != nil || instruments != nil else { return try await publish(message, before: deadline, timeout) }
        let begun = metrics?.began()
        let result: Result<Void, AMQPError>
        do throws(AMQPError) {
            if let instruments {
                try await instruments.publishing(message) { message throws(AMQPError) in
                    try await publish(message, before: deadline, timeout)
                }
            } else {
                try await publish(message, before: deadline, timeout)
            }
            result = .success(())
        } catch {
            result = .failure(error)
        }
        if let metrics, let begun { metrics.ended(to: message.destination, since: begun, result) }
        try result.get()
    }

    /// - Parameter timeout: The timeout behind the deadline, for error messages.
    private func publish(
        _ message: OutgoingMessage,
        before deadline: ContinuousClock.Instant,
        _ timeout: Duration
    ) async throws(AMQPError) {
        while true {
            let admission = publishScreen.admit(message)
            switch admission {
            case .shared:
                do throws(AMQPError) {
                    return try await publishScreen.noting(message) { () async throws(AMQPError) in
                        try await message.publish(on: channel(before: deadline), before: deadline)
                    }
                } catch {
                    // A lost channel accepts nothing more, so the registry does not return it again.
                    guard case .notSent(let cause) = error, cause.isEndOfChannel, ContinuousClock.now < deadline else {
                        throw error
                    }
                }
            case .alone(let ground, let notBefore, let refusal):
                return try await publishAlone(message, on: ground, notBefore, refusal, before: deadline)
            case .wait(let trial, let refusal):
                let left = ContinuousClock.now.duration(to: deadline)
                switch await trial.wait(atMost: left) {
                case .accepted, .unknown: continue
                case .refused(let error): throw .notSent(error.of(message))
                case nil:
                    if Task.isCancelled { throw .notSent(.cancelled(operation: "publish")) }
                    throw .notSent(
                        refusal?.of(message) ?? .timedOut(operation: "publish", after: timeout)
                    )
                }
            }
        }
    }

    /// Publishes the message on a separate channel, which it may close.
    private func publishAlone(
        _ message: OutgoingMessage,
        on ground: PublishRefusal.Ground,
        _ notBefore: ContinuousClock.Instant,
        _ refusal: AMQPError?,
        before deadline: ContinuousClock.Instant
    ) async throws(AMQPError) {
        var trial: RefusedPublishes.Trial? = .unknown
        defer {
            if let trial { publishScreen.tried(ground, trial) }
        }
        let pause = ContinuousClock.now.duration(to: min(notBefore, deadline))
        if pause > .zero {
            do {
                try await Task.sleep(for: pause)
            } catch {
                throw .notSent(.cancelled(operation: "publish"))
            }
        }
        if notBefore >= deadline, let refusal { throw .notSent(refusal.of(message)) }
        let channel: AMQPChannel
        do throws(AMQPError) {
            channel = try await channelBesideReadyOne(before: deadline)
        } catch {
            // If the connection cannot open another channel, the message shares one.
            guard case .tooManyChannels = error.cause, refusal == nil else { throw error }
            channel = try await self.channel(before: deadline)
            return try await publishScreen.noting(message) { () async throws(AMQPError) in
                try await message.publish(on: channel, before: deadline)
                trial = .accepted
            }
        }
        let result: Result<Void, AMQPError>
        do throws(AMQPError) {
            result = .success(try await message.publish(on: channel, before: deadline))
            publishScreen.tried(ground, .accepted)
        } catch {
            result = .failure(error)
            publishScreen.tried(ground, RefusedPublishes.Trial(error))
        }
        // Already delivered: those who wait for the outcome need not wait for the channel to close.
        trial = nil
        await channel.close()
        try result.get()
    }
}

extension AMQPPool {
    /// Opens a channel for one message, on the connection of a ready channel, so that everything declared by `onOpen` exists.
    private func channelBesideReadyOne(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel
    {
        while true {
            let ready = try await channel(before: deadline)
            do throws(AMQPError) {
                return try await ready.connection.openChannel(timeout: ContinuousClock.now.duration(to: deadline))
            } catch {
                // The connection was lost in the meantime; the registry does not return its channels again.
                guard error.cause.isEndOfChannel, ContinuousClock.now < deadline else { throw error.asNotSent }
            }
        }
    }
}

extension AMQPPool {
    /// Publishes messages in this order, written in one go, and waits for the outcome of each. It costs a fraction of publishing them one
    /// by one.
    ///
    ///     let results = await pool.publish(contentsOf: orders.map { OutgoingMessage($0, routingKey: "orders", mandatory: true) })
    ///     for (order, result) in zip(orders, results) {
    ///         if case .failure(let error) = result { print(order, error) }
    ///     }
    ///
    /// All are published on one channel while it lives. Messages that were not written before it was lost are published on another one,
    /// within the timeout; written messages are never sent again. A message to an exchange that has not accepted one yet is published first
    /// on a separate channel, as by ``publish(_:properties:exchange:routingKey:mandatory:timeout:)``, and the messages after it wait for
    /// that.
    ///
    /// - Parameters:
    ///   - messages: The messages. All of them are retained until the last has its outcome.
    ///   - timeout: The time limit for all of them together; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Returns: The outcome of each message, at its index: success when the broker has confirmed it, otherwise an error like those thrown
    ///   by ``publish(_:properties:exchange:routingKey:mandatory:timeout:)``. A failed message does not affect the others.
    public func publish(
        contentsOf messages: [OutgoingMessage],
        timeout: Duration? = nil
    ) async -> [Result<Void, AMQPError>] {
        guard metrics != nil || instruments != nil else { return await publishUnobserved(messages, timeout) }
        let begun = metrics?.began(messages.count)
        var messages = messages
        var spans: [any Span] = []
        if let instruments {
            for index in messages.indices { spans.append(instruments.beginPublishing(&messages[index])) }
        }
        let results = await publishUnobserved(messages, timeout)
        for (span, result) in zip(spans, results) {
            if case .failure(let error) = result { span.fail(error.publishOutcome) }
            span.end()
        }
        if let metrics, let begun {
            for (message, result) in zip(messages, results) {
                metrics.ended(to: message.destination, since: begun, result)
            }
        }
        return results
    }

    private func publishUnobserved(
        _ messages: [OutgoingMessage],
        _ timeout: Duration?
    ) async -> [Result<Void, AMQPError>] {
        let timeout = (timeout ?? operationTimeout).bounded
        let deadline = ContinuousClock.now + timeout
        var results = [Result<Void, AMQPError>](repeating: .success(()), count: messages.count)
        var left = Array(messages.indices)
        while !left.isEmpty {
            let together = left.prefix { publishScreen.shares(messages[$0]) }
            if together.isEmpty {
                let index = left.removeFirst()
                results[index] = await result(of: messages[index], before: deadline, timeout)
                // Similar messages would be refused one after another, each after a delay.
                guard case .failure(let error) = results[index], case .refused = error,
                    let ground = error.refusalGround(of: messages[index])
                else { continue }
                left.removeAll { other in
                    guard ground.matches(messages[other]) else { return false }
                    results[other] = .failure(.notSent(error.of(messages[other])))
                    return true
                }
                continue
            }
            let outcomes = await publish(together.map { messages[$0] }, before: deadline)
            left.removeFirst(together.count)
            var again: [Int] = []
            for (index, outcome) in zip(together, outcomes) {
                results[index] = outcome
                guard case .failure(let error) = outcome else { continue }
                publishScreen.failed(messages[index], error)
                // A lost channel accepts nothing more, so the registry does not return it again.
                if case .notSent(let cause) = error, cause.isEndOfChannel, ContinuousClock.now < deadline {
                    again.append(index)
                }
            }
            left = again + left
        }
        return results
    }

    private func publish(
        _ messages: [OutgoingMessage],
        before deadline: ContinuousClock.Instant
    ) async -> [Result<Void, AMQPError>] {
        do throws(AMQPError) {
            let channel = try await channel(before: deadline)
            return await channel.publishUnmeasured(messages, timeout: ContinuousClock.now.duration(to: deadline))
        } catch {
            return messages.map { _ in .failure(error) }
        }
    }

    private func result(
        of message: OutgoingMessage,
        before deadline: ContinuousClock.Instant,
        _ timeout: Duration
    ) async -> Result<Void, AMQPError> {
        do throws(AMQPError) {
            return .success(try await publish(message, before: deadline, timeout))
        } catch {
            return .failure(error)
        }
    }
}

extension AMQPPool {
    /// Runs the body with a channel that nobody else uses: for several dependent operations, a separate prefetch or consumer, or operations
    /// that may fail and thereby close the channel, such as a passive declaration (404).
    ///
    ///     let exists = try await pool.withDedicatedChannel { channel in
    ///         do {
    ///             try await channel.declareQueue("orders", passive: true)
    ///             return true
    ///         } catch AMQPError.channelClosedByBroker(code: 404, _) {
    ///             return false
    ///         }
    ///     }
    ///
    /// The channel is opened for this body, on a connection that is open and not blocked (round robin), and is always closed: when the body
    /// returns, throws, or is cancelled. Later operations on it fail. The broker redelivers what it consumed and did not acknowledge. A
    /// lost channel is not reopened within the body.
    ///
    /// It costs two round trips, one of them afterwards; publishing and declaring do not need it, see
    /// ``withChannel(timeout:isolation:_:)``.
    ///
    /// - Parameters:
    ///   - timeout: The time limit for the wait for a channel, including its opening; `nil` for
    ///     ``ConnectionConfiguration/operationTimeout``. At most ``PoolConfiguration/maximumDedicatedChannels`` bodies run concurrently;
    ///     others wait for their turn in order of arrival.
    ///   - isolation: The isolation of the body: the caller's.
    ///   - body: What to do with the channel.
    /// - Throws: What the body throws; ``AMQPError/overloaded(_:)`` when its turn did not come in time, or the errors of
    ///   ``waitUntilReady(timeout:)``, each inside ``AMQPError/notSent(_:)``.
    @discardableResult
    public func withDedicatedChannel<Result: Sendable>(
        timeout: Duration? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPChannel) async throws -> Result
    ) async throws -> Result {
        let channel = try await dedicatedChannel(before: .now + (timeout ?? operationTimeout).bounded)
        do {
            let result = try await body(channel)
            await channel.close()
            return result
        } catch {
            await channel.close()
            throw error
        }
    }

    /// Opens a channel that frees its slot when it is closed.
    private func dedicatedChannel(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        switch await dedicatedChannels.acquire(before: deadline) {
        case .admitted: break
        case .cancelled: throw .notSent(.cancelled(operation: "waiting for a channel"))
        case .deadline: throw .notSent(.overloaded("dedicated channels"))
        }
        do {
            let channel = try await openDedicatedChannel(before: deadline)
            channel.onClosed { [dedicatedChannels] _ in dedicatedChannels.release() }
            return channel
        } catch {
            dedicatedChannels.release()
            throw error
        }
    }

    private func openDedicatedChannel(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        while true {
            let connection = try await nextConnection(before: deadline)
            do throws(AMQPError) {
                return try await connection.openChannel(timeout: ContinuousClock.now.duration(to: deadline))
            } catch {
                // The connection was lost in the meantime; the registry does not return it again.
                guard error.cause.isEndOfChannel, ContinuousClock.now < deadline else { throw error.asNotSent }
            }
        }
    }
}

extension Health.Part {
    /// The health of something that is not running because its tree has ended, with the reason if there is one.
    package static func absent(_ name: String, because reason: ExitReason?) -> Health.Part {
        switch reason {
        case nil: .notReady(name, why: "starting, or not started yet")
        case .normal, .shutdown(nil): .notReady(name, why: "stopped")
        case .shutdown(let cause?): .dead(name, why: "\(cause)")
        case .killed, .crashed, .noProcess: .dead(name, why: "\(reason.map { "\($0)" } ?? "")")
        }
    }
}

extension AMQPError {
    var asNotSent: AMQPError {
        if case .notSent = self { self } else { .notSent(self) }
    }
}
