public import AMQPPool
internal import ConcurrencyPrimitives
public import Logging
@_exported public import RPCWire
public import ServiceLifecycle
public import Supervision

/// Answers the calls of other services over RabbitMQ, as a supervision tree that survives what can be survived.
///
///     let receiver = RPCReceiver(service: "math", endpoints: ["amqp://guest:guest@127.0.0.1:5672"], concurrency: 10) {
///         Procedure("add") { (args: [Int], _) in args.reduce(0, +) }
///         Procedure("fib") { (n: Int, context) in try await fib(n, deadline: context.deadline) }
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
/// A request is acknowledged only after its reply reached the broker, so one whose handler, channel, connection or whole
/// process dies is delivered again, to this receiver or another: **at least once**. ``RPCContext/redelivered`` tells, and
/// ``RPCContext/messageID`` recognises it.
///
/// Stopping takes nothing new on, answers what is in flight within ``RPCReceiverConfiguration/drainTimeout``, and then closes.
///
/// It is a `Service`. To make it part of a larger tree, put its ``supervisor`` among another supervisor's children.
public final class RPCReceiver: Service, Sendable {
    /// The name that callers send requests to.
    public let service: String
    /// The live tree: start, stop, events, and what "kill the process" tests aim at.
    public let supervisor: Supervisor
    /// What it answers with; callable in process.
    public let procedures: Procedures

    let current: CurrentIncarnation<ReceiverIncarnation>
    private let stateBroadcast: ReceiverStates
    let counters: ReceiverCounters
    let configuration: RPCReceiverConfiguration
    let logger: Logger

    /// Describes a receiver; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - service: The name that callers send requests to. At most 200 bytes.
    ///   - endpoints: The brokers to connect to, walked round robin.
    ///   - concurrency: How many requests run at once.
    ///   - logger: For the whole tree, and for the handlers.
    ///   - procedures: What it answers.
    public convenience init(
        service: String,
        endpoints: [Endpoint],
        concurrency: Int = 10,
        logger: Logger? = nil,
        @ProceduresBuilder procedures: () -> [Procedure]
    ) {
        var configuration = RPCReceiverConfiguration(endpoints: endpoints)
        configuration.concurrency = concurrency
        self.init(
            service: service,
            configuration: configuration,
            logger: logger,
            procedures: Procedures(procedures)
        )
    }

    /// Describes a receiver of a service whose contract its callers share; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - service: The service: its contract says the name and what has to be answered. A procedure that is missing is an error at the
    ///     start.
    ///   - endpoints: The brokers to connect to, walked round robin.
    ///   - concurrency: How many requests run at once.
    ///   - logger: For the whole tree, and for the handlers.
    ///   - procedures: What it answers.
    public convenience init<Service: RPCService>(
        _ service: Service.Type,
        endpoints: [Endpoint],
        concurrency: Int = 10,
        logger: Logger? = nil,
        @ProceduresBuilder procedures: () -> [Procedure]
    ) {
        var configuration = RPCReceiverConfiguration(endpoints: endpoints)
        configuration.concurrency = concurrency
        configuration.contract = service
        self.init(
            service: Service.name,
            configuration: configuration,
            logger: logger,
            procedures: Procedures(procedures)
        )
    }

    /// Describes a receiver with these settings; nothing runs before ``start()`` or ``run()``.
    public convenience init(
        service: String,
        configuration: RPCReceiverConfiguration,
        name: String = "receiver",
        logger: Logger? = nil,
        procedures: Procedures
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

    /// Describes a receiver that opens its channels on the connections of a pool, which others share: a process that calls, answers
    /// and publishes has the pool's two connections and not six.
    ///
    ///     let pool = AMQPPool(endpoints: endpoints)
    ///     let rpc = RPCCaller(service: "checkout", on: pool)
    ///     let receiver = RPCReceiver(service: "checkout", on: pool, procedures: Procedures {
    ///         Procedure("total") { (order: String, _) in try await rpc.call("prices", "of", order, as: Int.self) }
    ///     })
    ///     let service = Supervisor("checkout", strategy: .restForOne) {
    ///         pool.supervisor
    ///         rpc.supervisor
    ///         receiver.supervisor
    ///     }
    ///
    /// Its channels are its own, in its own tree, with all the guarantees of a receiver with connections of its own. Start the pool
    /// before the receiver and stop it after.
    ///
    /// - Parameters:
    ///   - service: The name that callers send requests to. At most 200 bytes.
    ///   - pool: Whose connections it uses.
    ///   - configuration: Its settings. Of ``RPCReceiverConfiguration/pool`` those count that concern channels and how they are
    ///     opened again; endpoints, connections and their settings are the pool's.
    ///   - name: The name of its supervisor.
    ///   - logger: For the whole tree, and for the handlers.
    ///   - procedures: What it answers.
    public convenience init(
        service: String,
        on pool: AMQPPool,
        configuration: RPCReceiverConfiguration = RPCReceiverConfiguration(),
        name: String = "receiver",
        logger: Logger? = nil,
        procedures: Procedures
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
        procedures: Procedures
    ) {
        var configuration = configuration
        configuration.pool = configuration.pool.onConnections(of: sharedPool)
        self.service = service
        self.procedures = procedures
        let current = CurrentIncarnation<ReceiverIncarnation>(limit: 1000)
        let metrics = activeMetricsFactory(configuration.metricsFactory)
        let counters = ReceiverCounters(metrics.map { ReceiverMetrics(service: service, factory: $0) })
        self.configuration = configuration
        let logger = logger ?? Logger(label: "rpc.receiver")
        self.logger = logger
        self.current = current
        self.counters = counters
        let states = ReceiverStates(current, absent: .stopped) { $0.state }
        stateBroadcast = states
        supervisor = receiverSupervisor(
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

    /// Starts the tree and returns when it is up, connected or not: ``waitUntilReady(timeout:)`` waits for that.
    ///
    /// - Throws: A `SupervisionError` around the `RPCConfigurationError` that says what cannot work.
    public func start() async throws {
        try await supervisor.start()
    }

    /// Stops taking requests on, answers those in flight within the drain timeout, and closes.
    public func stop() async {
        current.stop()
        await supervisor.stop()
    }

    /// Runs the tree until a graceful shutdown, the cancellation of the task, or its own end. Both stop it as ``stop()`` does.
    ///
    /// - Throws: Why it ended, when nobody asked it to: an `RPCTopologyError` when the broker refuses the exchange or the queue
    ///   at the first open, or what made the tree give up.
    public func run() async throws {
        try await supervisor.run()
    }

    /// Waits until it consumes the service's queue, also while it is started, or started anew.
    ///
    /// - Throws: What was tried and failed, when the time is over; `AMQPError.poolNotRunning` at once when it was stopped,
    ///   `AMQPError.poolEnded(why:)` when it could not start or gave up;
    ///   `AMQPError.cancelled(operation:)`.
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

    /// The receiver's state now, and each change. Does not end. At most 16 wait to be taken, then the oldest are lost.
    public var states: AsyncStream<RPCReceiverState> { stateBroadcast.stream }

    // MARK: Looking at it

    /// The tree as it is now.
    public func tree() -> SupervisionTree { supervisor.tree() }

    /// How many requests are taken on and not answered.
    public var inFlight: Int { current.value?.runner.count ?? 0 }

    /// How many handlers ignore their cancellation and run on although their requests are given up. When they become more than
    /// ``RPCReceiverConfiguration/concurrency``, the receiver takes no more requests until some of them have ended.
    public var zombieHandlers: Int { current.value?.runner.zombieCount ?? 0 }

    /// What was counted since this object was made.
    public var counts: RPCReceiverCounts { counters.current }
}
