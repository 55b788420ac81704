internal import ConcurrencyPrimitives
public import Logging
import NIOCore
public import ServiceLifecycle
public import Supervision
import Synchronization

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
    let dedicatedChannels: ConcurrencyLimit
    let publishScreen = PublishScreen()
    /// The consumers' channels; they outlive consumers and the processes of the pool, but not their connection.
    let keptChannels = KeptChannels()
    let logger: Logger
    /// The pool's metrics and tracer, if any.
    let metrics: PoolMetrics?
    package let instruments: Instruments?
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
            poolSupervisor(
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
    package var reasonForNoConnection: AMQPError { registry.value?.reasonForNone ?? .poolNotRunning }

    /// The ready channels.
    package var readyChannels: [AMQPChannel] {
        registry.value?.channels.filter(\.isReady) ?? []
    }

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

    func channel(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        // Fast path without waiting.
        if let channel = registry.value?.pick() { return channel }
        return try await registry.wait(before: deadline) { registry throws(AMQPError) in
            try await registry.next(before: deadline)
        }
    }

    func nextConnection(
        for use: ChannelRegistry.Use = .everything,
        before deadline: ContinuousClock.Instant
    ) async throws(AMQPError) -> AMQPConnection {
        try await registry.wait(before: deadline) { registry throws(AMQPError) in
            try await registry.nextConnection(for: use, before: deadline)
        }
    }

    /// The number of tasks that wait for a channel or a connection.
    var waiting: Int { registry.value?.waiting ?? 0 }

    var operationTimeout: Duration { configuration.connection.operationTimeout }
}

extension SupervisorReference {
    /// The nearest supervisor with this name, from this one up.
    fileprivate func ancestor(named name: String) -> SupervisorReference? {
        var current: SupervisorReference? = self
        while let supervisor = current, supervisor.name != name { current = supervisor.parent }
        return current
    }
}
