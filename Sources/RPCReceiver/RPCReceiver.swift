public import AMQPPool
internal import ConcurrencyPrimitives
public import Logging
import Metrics
@_exported public import RPCWire
public import ServiceLifecycle
public import Supervision

/// Answers the calls of other services over RabbitMQ, as a fault-tolerant supervision tree.
///
///     let receiver = RPCReceiver(service: "math", endpoints: ["amqp://guest:guest@127.0.0.1:5672"], concurrency: 10) {
///         RPCHandler("add") { (args: [Int], _) in args.reduce(0, +) }
///         RPCHandler("fib") { (n: Int, context) in try await fib(n, deadline: context.deadline) }
///     }
///     try await receiver.run()
///
/// The tree:
///
///     receiver                       rest for one
///     |- registry                    channels ready for use
///     |- handlers                    runs the requests
///     `- pool                        connections, channels: each consumes the service's queue
///
/// A request is acknowledged only after its reply has reached the broker, so a request whose handler, channel, connection or OS process
/// dies is redelivered, to this receiver or another: **at least once**. ``RPCContext/redelivered`` and ``RPCContext/messageID`` tell a
/// handler.
///
/// A stop accepts no more requests, answers those in flight within ``RPCReceiverConfiguration/drainTimeout``, and then closes.
///
/// It is a `Service`. To make it part of a larger tree, list its ``supervisor`` among another supervisor's children.
public final class RPCReceiver: Service, Sendable {
    /// The name that callers send requests to.
    public let service: String
    /// The supervision tree: start it, stop it, observe its events, and kill its processes in tests.
    public let supervisor: Supervisor
    /// The procedures; they can also be called in process.
    public let procedures: RPCHandlers

    let current: CurrentIncarnation<ReceiverIncarnation>
    private let stateBroadcast: ReceiverStates
    let counters: ReceiverCounters
    let configuration: RPCReceiverConfiguration
    let logger: Logger

    /// Creates a receiver; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - service: The name that callers send requests to. At most 200 bytes.
    ///   - endpoints: The brokers to connect to, tried round robin.
    ///   - concurrency: How many requests run concurrently.
    ///   - logger: The logger of the whole tree and the handlers.
    ///   - procedures: The procedures.
    public convenience init(
        service: String,
        endpoints: [Endpoint],
        concurrency: Int = 10,
        logger: Logger? = nil,
        @RPCHandlersBuilder procedures: () -> [RPCHandler]
    ) {
        var configuration = RPCReceiverConfiguration(endpoints: endpoints)
        configuration.concurrency = concurrency
        self.init(
            service: service,
            configuration: configuration,
            logger: logger,
            procedures: RPCHandlers(procedures)
        )
    }

    /// Creates a receiver of a service with a shared contract; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - service: The contract of the service, with its name and procedures. A missing procedure is an error at the start.
    ///   - endpoints: The brokers to connect to, tried round robin.
    ///   - concurrency: How many requests run concurrently.
    ///   - logger: The logger of the whole tree and the handlers.
    ///   - procedures: The procedures.
    public convenience init<Service: RPCService>(
        _ service: Service.Type,
        endpoints: [Endpoint],
        concurrency: Int = 10,
        logger: Logger? = nil,
        @RPCHandlersBuilder procedures: () -> [RPCHandler]
    ) {
        var configuration = RPCReceiverConfiguration(endpoints: endpoints)
        configuration.concurrency = concurrency
        configuration.contract = service
        self.init(
            service: Service.name,
            configuration: configuration,
            logger: logger,
            procedures: RPCHandlers(procedures)
        )
    }

    /// Creates a receiver with these settings; nothing runs before ``start()`` or ``run()``.
    public convenience init(
        service: String,
        configuration: RPCReceiverConfiguration,
        name: String = "receiver",
        logger: Logger? = nil,
        procedures: RPCHandlers
    ) {
        self.init(
            service: service,
            configuration: configuration,
            sharedPool: nil,
            name: name,
            logger: logger,
            procedures: procedures
        )
    }

    /// Creates a receiver that opens its channels on the connections of a shared pool: a process that calls, answers and publishes then has
    /// two connections instead of six.
    ///
    ///     let pool = AMQPPool(endpoints: endpoints)
    ///     let rpc = RPCCaller(service: "checkout", on: pool)
    ///     let receiver = RPCReceiver(service: "checkout", on: pool, procedures: RPCHandlers {
    ///         RPCHandler("total") { (order: String, _) in try await rpc.call("prices", "of", order, as: Int.self) }
    ///     })
    ///     let service = Supervisor("checkout", strategy: .restForOne) {
    ///         pool.supervisor
    ///         rpc.supervisor
    ///         receiver.supervisor
    ///     }
    ///
    /// It has its own channels in its own tree, with all the guarantees of a receiver with its own connections. Start the pool before the
    /// receiver and stop it after.
    ///
    /// - Parameters:
    ///   - service: The name that callers send requests to. At most 200 bytes.
    ///   - pool: The pool whose connections it uses.
    ///   - configuration: The settings. Of ``RPCReceiverConfiguration/pool`` only those for channels and their reopening apply; endpoints,
    ///     connections and their settings are the pool's.
    ///   - name: The name of its supervisor.
    ///   - logger: The logger of the whole tree and the handlers.
    ///   - procedures: The procedures.
    public convenience init(
        service: String,
        on pool: AMQPPool,
        configuration: RPCReceiverConfiguration = RPCReceiverConfiguration(),
        name: String = "receiver",
        logger: Logger? = nil,
        procedures: RPCHandlers
    ) {
        self.init(
            service: service,
            configuration: configuration,
            sharedPool: pool,
            name: name,
            logger: logger,
            procedures: procedures
        )
    }

    private init(
        service: String,
        configuration: RPCReceiverConfiguration,
        sharedPool: AMQPPool?,
        name: String,
        logger: Logger?,
        procedures: RPCHandlers
    ) {
        var configuration = configuration
        configuration.pool = configuration.pool.onConnections(of: sharedPool)
        self.service = service
        self.procedures = procedures
        let current = CurrentIncarnation<ReceiverIncarnation>(limit: 1000)
        let metrics = MetricsSystem.activeFactory(configuration.metricsFactory)
        let counters = ReceiverCounters(metrics.map { ReceiverMetrics(service: service, factory: $0) })
        self.configuration = configuration
        let logger = logger ?? Logger(label: "rpc.receiver")
        self.logger = logger
        self.current = current
        self.counters = counters
        let states = ReceiverStates(current, absent: .stopped) { $0.state }
        stateBroadcast = states
        supervisor = Supervisor.receiver(
            name,
            service: service,
            configuration: configuration,
            on: sharedPool,
            procedures: procedures,
            current: current,
            states: states,
            counters: counters,
            logger: logger
        )
        supervisor.onRootPhase { current.follow($0) }
    }

    // MARK: Running

    /// Starts the tree and returns when it is running, connected or not: ``waitUntilReady(timeout:)`` waits for a connection.
    ///
    /// - Throws: A `SupervisionError` with the `RPCConfigurationError` for invalid settings.
    public func start() async throws {
        try await supervisor.start()
    }

    /// Accepts no more requests, answers those in flight within the drain timeout, and closes.
    public func stop() async {
        current.stop()
        await supervisor.stop()
    }

    /// Runs the tree until a graceful shutdown, the cancellation of the task, or its own end. The first two stop it like ``stop()``.
    ///
    /// - Throws: Why it ended without having been asked to: an `RPCTopologyError` when the broker refuses the exchange or the queue at the
    ///   first open, or the error for which the tree gave up.
    public func run() async throws {
        try await supervisor.run()
    }

    /// Waits until it consumes the service's queue, also while it is starting or restarting.
    ///
    /// - Throws: The failed attempts, after the timeout; `AMQPError.poolNotRunning` immediately when it was stopped,
    ///   `AMQPError.poolEnded(why:)` when it failed to start or gave up; `AMQPError.cancelled(operation:)`.
    public func waitUntilReady(timeout: Duration = .seconds(30)) async throws(AMQPError) {
        let deadline = ContinuousClock.now + timeout.bounded
        var ended: ReceiverIncarnation?
        while true {
            let parts = try await parts(otherThan: ended, before: deadline)
            do throws(AMQPError) {
                _ = try await parts.registry.next(before: deadline)
                return
            } catch {
                guard parts.registry.isEnded, case .notSent(.poolNotRunning) = error else { throw error }
                ended = parts
            }
        }
    }

    private func parts(
        otherThan ended: ReceiverIncarnation?,
        before deadline: ContinuousClock.Instant
    ) async throws(AMQPError) -> ReceiverIncarnation {
        do throws(CurrentIncarnation<ReceiverIncarnation>.Absence) {
            return try await current.value(otherThan: ended, before: deadline)
        } catch {
            switch error {
            case .cancelled: throw .cancelled(operation: "waiting for the receiver")
            case .ended(let reason): throw .ended(reason)
            case .deadline, .overloaded: throw .notConnected([])
            }
        }
    }

    /// The current state of the receiver, and each change. Does not end. At most 16 states are buffered, then the oldest are dropped.
    public var states: AsyncStream<RPCReceiverState> { stateBroadcast.stream }

    // MARK: Inspection

    /// A snapshot of the tree.
    public func tree() -> SupervisionTree { supervisor.tree() }

    /// The number of requests that are accepted and unanswered.
    public var inFlight: Int { current.value?.runner.count ?? 0 }

    /// The number of handlers that ignored their cancellation and are still running. If there are more than
    /// ``RPCReceiverConfiguration/concurrency``, the receiver accepts no more requests until some of them have ended.
    public var zombieHandlers: Int { current.value?.runner.zombieCount ?? 0 }

    /// The counts since this object was created.
    public var counts: RPCReceiverCounts { counters.current }
}

extension RPCReceiver: HealthReporting {
    /// The current state; ``states`` has the changes.
    public var state: RPCReceiverState { current.value?.state ?? .stopped }

    /// Whether it gets requests and can answer them.
    public var isReady: Bool { state == .ready }

    /// Whether it works, and if not, which attempts failed.
    public var health: Health.Part {
        let name = supervisor.name
        return switch state {
        case .ready: .ready(name)
        case .blocked: .notReady(name, why: "\(current.value?.registry.reasonForNone ?? .poolNotRunning)")
        case .connecting: .notReady(name, why: current.value?.reasonForNone ?? "starting")
        case .suspended: .notReady(name, why: "\(zombieHandlers) handlers ignore their cancellation")
        case .stopping: .notReady(name, why: "stopping: \(inFlight) requests are answered")
        case .stopped: .absent(name, because: current.ended)
        }
    }
}

extension RPCReceiver {
    /// The activity of its handlers, counted while somebody watches.
    package var observation: CallObservation { counters.observation }

    /// Its channels and connections; `nil` while it is not running.
    package var channelRegistry: ChannelRegistry? { current.value?.registry }

    /// - Parameter limit: The maximum number of oldest requests to list.
    package func look(oldest limit: Int = 50) -> RPCReceiverLook {
        var look = RPCReceiverLook(
            service: service,
            queue: queueName,
            state: .stopped,
            concurrency: configuration.concurrency,
            prefetch: configuration.prefetch,
            running: 0,
            waiting: 0,
            zombieHandlers: zombieHandlers,
            counts: counts,
            oldest: [],
            statistics: observation.statistics
        )
        guard let parts = current.value else { return look }
        look.state = parts.state
        (look.oldest, look.running, look.waiting) = parts.runner.look(oldest: limit)
        return look
    }
}

extension ReceiverIncarnation {
    /// Why it gets no requests.
    fileprivate var reasonForNone: String {
        if let fault = consumers.topologyFault { return fault }
        return registry.channels.isEmpty ? "\(registry.reasonForNone)" : "the queue is not consumed"
    }
}
