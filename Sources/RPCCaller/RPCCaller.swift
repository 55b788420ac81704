public import AMQPPool
import ConcurrencyPrimitives
public import Logging
import NIOCore
import NIOPosix
@_exported public import RPCWire
public import ServiceLifecycle
public import Supervision
import Synchronization

/// Calls procedures of other services over RabbitMQ, as a supervision tree that survives what can be survived.
///
///     let rpc = RPCCaller(service: "checkout", endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
///     try await rpc.start()
///     let sum: Int = try await rpc.call("math", "add", [4, 9], timeout: .seconds(5))
///
/// The tree:
///
///     caller                         one for all
///     |- registry                    channels ready for use
///     |- pending                     the waiting calls; owns the reply queue's name
///     `- pool                        connections, channels: each consumes the reply queue
///
/// It comes up at once and connects in the background; a call made meanwhile waits, no longer than its own deadline. Every call
/// ends exactly once, with its result or an ``RPCError`` that says whether the request may have been processed. A channel or
/// connection that is killed or lost takes no waiting call with it while another connection lives; the end of the pending
/// table fails them all at once.
///
/// It is a `Service`. To make it part of a larger tree, put its ``supervisor`` among another supervisor's children.
public final class RPCCaller: Service, Sendable {
    /// The name under which the service's reply queues can be recognised.
    public let service: String
    /// The live tree: start, stop, events, and what "kill the process" tests aim at.
    public let supervisor: Supervisor

    /// Runs tasks on the event loop of the caller's connections, for code that makes very many calls: a call is written where it was
    /// made, and its reply resumes the task that waits for it, without waking another thread. It takes a third off what a call costs.
    ///
    ///     try await withTaskExecutorPreference(rpc.executor) {
    ///         let sum: Int = try await rpc.call("math", "add", [4, 9], timeout: .seconds(5))
    ///     }
    ///
    /// What runs there must never block and must be short, as for that of an `AMQPPool`, which it is for a caller on a pool.
    public let executor: any TaskExecutor

    let configuration: RPCCallerConfiguration
    let current: CurrentIncarnation<CallTable>
    /// What ``current`` said last: that is generic code of another module, and not for each call.
    let lastTable = Mutex<CallTable?>(nil)
    private let stateBroadcast: CallerStates
    let counters: CallerCounters
    let logger: Logger
    /// Ours, then those that were configured.
    let interceptors: [any RPCCallerInterceptor]
    /// Takes the broker's place in unit tests.
    let wire: (any RPCWireReplacement)?

    /// Describes a caller; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - service: The calling service: its reply queues begin with it. At most 200 bytes.
    ///   - endpoints: The brokers to connect to, walked round robin.
    ///   - logger: For the whole tree.
    public convenience init(service: String, endpoints: [Endpoint], logger: Logger? = nil) {
        self.init(service: service, configuration: RPCCallerConfiguration(endpoints: endpoints), logger: logger)
    }

    /// Describes a caller with these settings; nothing runs before ``start()`` or ``run()``.
    public convenience init(
        service: String,
        configuration: RPCCallerConfiguration,
        name: String = "caller",
        logger: Logger? = nil
    ) {
        self.init(service: service, configuration: configuration, on: nil, name: name, logger: logger, wire: nil)
    }

    /// Describes a caller that opens its channels on the connections of a pool, which others share: a process that calls, answers and
    /// publishes has the pool's two connections and not six.
    ///
    ///     let pool = AMQPPool(endpoints: endpoints)
    ///     let rpc = RPCCaller(service: "checkout", on: pool)
    ///     let service = Supervisor("checkout", strategy: .restForOne) {
    ///         pool.supervisor
    ///         rpc.supervisor
    ///     }
    ///
    /// Its channels are its own, in its own tree, with all the guarantees of a caller with connections of its own: what ends in it,
    /// or is killed, takes its channels and its reply queue with it and nothing of the pool; a connection that the pool loses is as
    /// one that the caller loses. Start the pool before the caller and stop it after: while the pool does not run, calls wait, and then
    /// fail with ``RPCError/notConnected(why:)``.
    ///
    /// - Parameters:
    ///   - service: The calling service: its reply queues begin with it. At most 200 bytes.
    ///   - pool: Whose connections it uses.
    ///   - configuration: Its settings. Of ``RPCCallerConfiguration/pool`` those count that concern channels and how they are opened
    ///     again; endpoints, connections and their settings are the pool's.
    ///   - name: The name of its supervisor.
    ///   - logger: For the whole tree.
    public convenience init(
        service: String,
        on pool: AMQPPool,
        configuration: RPCCallerConfiguration = RPCCallerConfiguration(),
        name: String = "caller",
        logger: Logger? = nil
    ) {
        self.init(service: service, configuration: configuration, on: pool, name: name, logger: logger, wire: nil)
    }

    /// The same, with something else in the broker's place: then the tree is empty, and what calls need is there at once.
    package init(
        service: String,
        configuration: RPCCallerConfiguration,
        on pool: AMQPPool? = nil,
        name: String = "caller",
        logger: Logger? = nil,
        wire: (any RPCWireReplacement)?
    ) {
        self.service = service
        var configuration = configuration
        configuration.pool = configuration.pool.onConnections(of: pool)
        self.configuration = configuration
        self.wire = wire
        let logger = logger ?? Logger(label: "rpc.caller")
        self.logger = logger
        executor =
            pool?.executor ?? EventLoopExecutor(configuration.pool.connection.eventLoopGroup.next(), logger: logger)
        let current = CurrentIncarnation<CallTable>(limit: configuration.maximumCallsInFlight)
        let metrics = activeMetricsFactory(configuration.metricsFactory)
        let counters = CallerCounters(metrics.map { CallerMetrics(service: service, factory: $0) })
        self.current = current
        self.counters = counters
        interceptors = configuration.allInterceptors
        let states = CallerStates(current, absent: .stopped) { $0.callerState }
        stateBroadcast = states
        supervisor =
            wire == nil
            ? callerSupervisor(
                name,
                service: service,
                configuration: configuration,
                on: pool,
                current: current,
                states: states,
                counters: counters,
                logger: logger
            )
            : Supervisor(name, logger: logger) { [configuration] in
                Child("registry") { _ -> ChannelRegistry? in
                    try configuration.check(service: service)
                    return nil
                }
            }
            .observed { _, _ in }
        supervisor.onRootPhase { current.follow($0) }
    }

    // MARK: Running

    /// Starts the tree and returns when it is up, connected or not: ``waitUntilReady(timeout:)`` waits for that.
    public func start() async throws {
        try await supervisor.start()
    }

    /// Stops taking calls, lets those that wait end, and closes.
    ///
    /// The same happens when the tree that it is a part of stops. When it ends and that tree goes on, it is started anew: calls made
    /// meanwhile wait for that, within their deadlines.
    ///
    /// New calls fail at once with ``RPCError/notConnected(why:)``, until it is started again. Those that wait get their replies,
    /// within ``RPCCallerConfiguration/drainTimeout``; what waits longer, or cannot be sent because nothing is connected, fails with
    /// ``RPCError/callerRestarted(_:requestMayHaveBeenDelivered:)``.
    public func stop() async {
        current.stop()
        await supervisor.stop()
    }

    /// Runs the tree until a graceful shutdown, the cancellation of the task, or its own end.
    ///
    /// - Throws: Why it ended, when nobody asked it to: an `RPCTopologyError` when the broker refuses the exchange or the
    ///   reply queue at the first open, or what made the tree give up.
    public func run() async throws {
        try await supervisor.run()
    }

    /// Waits until a call could be sent at once.
    ///
    /// - Throws: ``RPCError/notConnected(why:)`` with what was tried and failed when the time is over, ``RPCError/blocked(why:)``,
    ///   ``RPCError/cancelled(requestMayHaveBeenDelivered:)``.
    public nonisolated(nonsending) func waitUntilReady(timeout: Duration = .seconds(30)) async throws(RPCError) {
        let request = OutgoingRequest(kind: .readiness, destination: "", deadline: try deadline(after: timeout))
        if wire != nil { return }
        _ = try await perform(RequestID(), request, CallOptions())
    }

    /// The caller's state now, and each change. Does not end. At most 16 wait to be taken, then the oldest are lost.
    public var states: AsyncStream<RPCCallerState> { stateBroadcast.stream }

    // MARK: Looking at it

    /// The tree as it is now.
    public func tree() -> SupervisionTree { supervisor.tree() }

    /// The queue that replies come to now; `nil` while the tree is not running, and with ``RPCReplies/direct``. It changes when the queue is lost, and with
    /// each incarnation of the pending table.
    public var replyQueueName: String? {
        switch configuration.replies {
        case .queue: current.value?.state.withLock { $0.replyQueue.name }
        case .direct: nil
        }
    }

    /// How many calls and casts wait.
    public var pendingCount: Int { current.value?.count ?? 0 }

    /// What was counted since this object was made.
    public var counts: RPCCallerCounts { counters.current }

    // MARK: Calling

    /// Calls a procedure of a service and returns its result.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: Its procedure.
    ///   - argument: What the procedure takes, as JSON: any `Encodable`, also a lone number or string.
    ///   - timeout: How long to wait for the reply, from now on; the request is dropped by the broker and the handler cancelled
    ///     when it is over. `nil` is ``RPCCallerConfiguration/timeout``. In a handler the call ends at the handler's own deadline at
    ///     the latest: see `RPCDeadline`.
    ///   - retry: Whether it is sent again when nobody knows what became of it.
    ///   - type: The type of the result, where it is not clear from the context.
    /// - Throws: ``RPCError``: each case says whether the request may have been processed.
    public nonisolated(nonsending) func call<Output: Decodable>(
        _ destination: String,
        _ procedure: String,
        _ argument: some Encodable,
        timeout: Duration? = nil,
        retry: RPCRetry = .never,
        as type: Output.Type = Output.self
    ) async throws(RPCError) -> Output {
        try await sendJSON(.call, destination, procedure, argument, timeout: timeout, CallOptions(retry: retry)).json()
    }

    /// Calls a procedure whose declaration both sides share, and returns its result.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: Its procedure: the declaration says the types, and how they are written.
    ///   - argument: What the procedure takes.
    ///   - timeout: As ``call(_:_:_:timeout:retry:as:)`` has it.
    ///   - retry: Whether it is sent again when nobody knows what became of it.
    /// - Throws: ``RPCError``: each case says whether the request may have been processed.
    public nonisolated(nonsending) func call<Request, Response>(
        _ destination: String,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) -> Response {
        let options = CallOptions(retry: retry)
        return try await sendDeclared(.call, destination, procedure, argument, timeout: timeout, options)
            .decoded(by: procedure.response)
    }

    /// Calls a procedure of a service whose contract both sides share, and returns its result.
    ///
    /// - Parameters:
    ///   - service: The service: its contract says the name.
    ///   - procedure: One of its procedures.
    ///   - argument: What the procedure takes.
    ///   - timeout: As ``call(_:_:_:timeout:retry:as:)`` has it.
    ///   - retry: Whether it is sent again when nobody knows what became of it.
    /// - Throws: ``RPCError``: each case says whether the request may have been processed.
    public nonisolated(nonsending) func call<Service: RPCService, Request, Response>(
        _ service: Service.Type,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) -> Response {
        try await call(Service.name, procedure, argument, timeout: timeout, retry: retry)
    }

    /// Sends a request that is not answered to a service whose contract both sides share, and returns when the broker has taken it over for
    /// good.
    ///
    /// - Throws: ``RPCError``, as ``call(_:_:_:timeout:retry:as:)`` does, without those that concern replies.
    public nonisolated(nonsending) func cast<Service: RPCService, Request, Response>(
        _ service: Service.Type,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) {
        try await cast(Service.name, procedure, argument, timeout: timeout, retry: retry)
    }

    /// Asks a service what it answers.
    ///
    /// - Throws: ``RPCError``; `RPCFailure.Code.unknownProcedure` from a receiver that is told not to say so.
    public nonisolated(nonsending) func describe(
        _ destination: String,
        timeout: Duration? = nil
    ) async throws(RPCError) -> RPCServiceDescription {
        try await call(destination, RPCServiceDescription.procedure, .null, timeout: timeout)
    }

    /// Sends a request that is not answered, and returns when the broker has taken it over for good.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: Its procedure.
    ///   - argument: What the procedure takes.
    ///   - timeout: How long to wait for the broker. `nil` is ``RPCCallerConfiguration/timeout``.
    ///   - retry: Whether it is sent again when nobody knows what became of it.
    /// - Throws: ``RPCError``, as ``call(_:_:_:timeout:retry:as:)`` does, without those that concern replies.
    public nonisolated(nonsending) func cast(
        _ destination: String,
        _ procedure: String,
        _ argument: some Encodable,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) {
        _ = try await sendJSON(.cast, destination, procedure, argument, timeout: timeout, CallOptions(retry: retry))
    }

    /// Sends a request to a declared procedure that is not answered, and returns when the broker has taken it over for good.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: Its procedure.
    ///   - argument: What the procedure takes.
    ///   - timeout: How long to wait for the broker. `nil` is ``RPCCallerConfiguration/timeout``.
    ///   - retry: Whether it is sent again when nobody knows what became of it.
    /// - Throws: ``RPCError``, as ``call(_:_:_:timeout:retry:as:)`` does, without those that concern replies.
    public nonisolated(nonsending) func cast<Request, Response>(
        _ destination: String,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) {
        let options = CallOptions(retry: retry)
        _ = try await sendDeclared(.cast, destination, procedure, argument, timeout: timeout, options)
    }

    /// Calls whoever answers the requests in a queue, through the default exchange: a server that knows queues and nothing of services,
    /// such as one of RabbitMQ's tutorial.
    ///
    /// - Parameters:
    ///   - queue: The queue's name. One that does not exist is ``RPCError/unroutable(destination:)``.
    ///   - procedure: What the server expects, if anything, in the header `procedure`.
    ///   - argument: What the server takes, as JSON.
    ///   - timeout: As ``call(_:_:_:timeout:retry:as:)`` has it.
    ///   - retry: Whether it is sent again when nobody knows what became of it.
    ///   - type: The type of the result, where it is not clear from the context.
    /// - Throws: ``RPCError``: each case says whether the request may have been processed.
    public nonisolated(nonsending) func callQueue<Output: Decodable>(
        _ queue: String,
        _ procedure: String? = nil,
        _ argument: some Encodable,
        timeout: Duration? = nil,
        retry: RPCRetry = .never,
        as type: Output.Type = Output.self
    ) async throws(RPCError) -> Output {
        let options = CallOptions(queue: queue, retry: retry)
        return try await sendJSON(.call, queue, procedure, argument, timeout: timeout, options).json()
    }

    /// Calls whoever answers the requests in a queue, as a declaration that both sides share has it: with a `TextCodec`, for
    /// example, a server that takes and gives plain text.
    ///
    /// The declaration's name goes into the header `procedure`; without a name there is no such header.
    ///
    /// - Throws: ``RPCError``: each case says whether the request may have been processed.
    public nonisolated(nonsending) func callQueue<Request, Response>(
        _ queue: String,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) -> Response {
        let options = CallOptions(queue: queue, retry: retry)
        return try await sendDeclared(.call, queue, procedure, argument, timeout: timeout, options)
            .decoded(by: procedure.response)
    }
}
