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
/// It comes up at once and connects in the background. What broker and network do to it is repaired in the background too:
/// an operation waits for a channel no longer than its timeout, and then says why there is none. It is a `Service`; to make
/// it part of a larger tree, put its ``supervisor`` into another supervisor's children.
public final class AMQPPool: Service, Sendable {
    /// The tree of the pool.
    public let supervisor: Supervisor
    /// Runs tasks on the event loop of the pool's connections, for code that exchanges very many small messages: a message is written
    /// where it was made, and its outcome resumes the task that waits for it, without waking another thread.
    ///
    ///     try await withTaskExecutorPreference(pool.executor) {
    ///         for order in orders { try await pool.publish(order, routingKey: "orders") }
    ///     }
    ///
    /// What runs there must never block and must be short: while it runs, the connections do nothing, neither deliveries nor
    /// heartbeats. A part of a task that holds the event loop for more than 5 ms is logged as a warning, at most once a minute. The event
    /// loop group must outlive the tasks: a group of your own that is shut down never resumes them. With
    /// ``PoolConfiguration/spreadsOverEventLoops`` it is one event loop of several.
    public let executor: any TaskExecutor
    package let configuration: PoolConfiguration
    /// What callers and receivers that share this pool open their channels on.
    package let leases: ConnectionLeases
    let registry: CurrentIncarnation<ChannelRegistry>
    let dedicatedChannels: ConcurrencyLimit
    let publishScreen = PublishScreen()
    /// Of consumers; they outlive these as well as the processes of the pool, but not the connection they are on.
    let keptChannels = KeptChannels()
    let logger: Logger
    /// What is measured of it, and with what it traces, if anything.
    let metrics: PoolMetrics?
    package let instruments: Instruments?
    let stateBroadcast = StateBroadcast(PoolState.stopped)

    /// Describes a pool; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - endpoints: the brokers to connect to, walked round robin.
    ///   - connections: how many connections.
    ///   - channelsPerConnection: how many channels on each.
    ///   - logger: for the whole pool.
    ///   - onOpen: sets up each channel that was opened, before it is used: declares, consumes. It runs again whenever a
    ///     channel is opened anew. The broker refusing it (403, 406) at the first time ends the pool: ``run()`` throws.
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

    /// Describes a pool with these settings; nothing runs before ``start()`` or ``run()``.
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
        // As many wait as there are tasks that use the pool; each is one of theirs.
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
                        "the pool \"\(name)\" runs already: start it, or make its supervisor a child of one tree, not both"
                    )
                }
                states.update { current.poolState }
                // In this order: who is told that it has ended must not find it again.
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

    /// Starts the tree; connecting goes on in the background. See ``waitUntilReady(timeout:)``.
    ///
    /// - Throws: ``AMQPError/invalidArgument(_:)`` or ``AMQPError/tooFewChannels(endpoint:limit:needed:)``, inside the error of the
    ///   tree, when the settings cannot be, or the pool runs already: on its own or as a part of a tree.
    public func start() async throws {
        try await supervisor.start()
    }

    /// Runs until the surrounding task is cancelled or shut down gracefully. Throws why the pool gave up, if it did, or as
    /// ``start()``.
    public func run() async throws {
        try await supervisor.run()
    }

    /// Stops in order: channels close, then connections.
    public func stop() async {
        registry.stop()
        await supervisor.stop()
    }

    /// Waits until a channel is ready.
    ///
    /// - Throws: ``AMQPError/notConnected(_:)`` with what was tried at each endpoint and why it failed (refused, TLS, credentials,
    ///   virtual host, set-up), ``AMQPError/blocked(reason:)``, ``AMQPError/poolNotRunning`` or
    ///   ``AMQPError/cancelled(operation:)``; each inside ``AMQPError/notSent(_:)``. None has a credential in it.
    public func waitUntilReady(timeout: Duration = .seconds(10)) async throws(AMQPError) {
        _ = try await channel(before: .now + timeout.bounded)
    }

    /// Runs the body with a channel of the pool that is ready: to declare, bind, consume. Others use the channel too, and an
    /// operation that the broker refuses closes it for all; it is opened again. See also
    /// ``withDedicatedChannel(timeout:isolation:_:)``.
    ///
    /// - Parameters:
    ///   - timeout: how long to wait for a channel; nil is ``ConnectionConfiguration/operationTimeout``.
    ///   - isolation: where the body runs: where this is called.
    ///   - body: what to do with the channel.
    @discardableResult
    public func withChannel<Result: Sendable>(
        timeout: Duration? = nil,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (AMQPChannel) async throws -> Result
    ) async throws -> Result {
        try await body(channel(before: .now + (timeout ?? operationTimeout).bounded))
    }

    /// Replaces the secret on all connections that are open, before it expires; see ``AMQPConnection/updateSecret(_:reason:timeout:)``.
    /// Connections opened later take theirs from the endpoint or the ``CredentialsProvider``: that must know the new one first.
    ///
    /// - Throws: the first error, after every connection was told.
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

    /// How the pool is now; see ``states`` for the changes.
    public var state: PoolState { registry.poolState }

    /// Whether a channel is ready.
    public var isReady: Bool { state == .ready }

    /// Why there is no connection now.
    package var reasonForNoConnection: AMQPError { registry.value?.reasonForNone ?? .poolNotRunning }

    /// The channels that are set up and ready.
    package var readyChannels: [AMQPChannel] {
        registry.value?.channels.filter(\.isReady) ?? []
    }

    /// A connection to consume on that is open and not blocked, or nil when there is none in time.
    func connection(within timeout: Duration) async throws -> AMQPConnection? {
        let deadline = ContinuousClock.now + timeout.bounded
        do throws(AMQPError) {
            return try await nextConnection(for: .consuming, before: deadline)
        } catch {
            try Task.checkCancellation()
            // Stopped on purpose, it says so at once; it may be started again.
            try await Task.sleep(for: min(max(.zero, ContinuousClock.now.duration(to: deadline)), .milliseconds(100)))
            return nil
        }
    }

    func channel(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> AMQPChannel {
        // Without waiting when there is one.
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

    /// How many wait for a channel or a connection.
    var waiting: Int { registry.value?.waiting ?? 0 }

    var operationTimeout: Duration { configuration.connection.operationTimeout }
}

extension SupervisorReference {
    /// The nearest supervisor above with this name, or this one.
    fileprivate func ancestor(named name: String) -> SupervisorReference? {
        var current: SupervisorReference? = self
        while let supervisor = current, supervisor.name != name { current = supervisor.parent }
        return current
    }
}
