public import AMQPPool
import ConcurrencyPrimitives
public import Logging
import Metrics
import NIOCore
import NIOPosix
@_exported public import RPCWire
public import ServiceLifecycle
public import Supervision
import Synchronization

/// Calls procedures of other services over RabbitMQ, as a fault-tolerant supervision tree.
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
/// It starts immediately and connects in the background; a call made in the meantime waits, until its own deadline at most. Every call ends
/// exactly once, with its result or an ``RPCError`` that says whether the request may have been processed. The loss of a channel or
/// connection ends no waiting call while another connection lives; the end of the pending table fails all of them immediately.
///
/// It is a `Service`. To make it part of a larger tree, list its ``supervisor`` among another supervisor's children.
public final class RPCCaller: Service, Sendable {
    /// The name of the calling service, which its reply queues begin with.
    public let service: String
    /// The supervision tree: start it, stop it, observe its events, and kill its processes in tests.
    public let supervisor: Supervisor

    /// Runs tasks on the event loop of the caller's connections, for code that makes very many calls: a call is written by the thread that
    /// makes it, and its reply resumes the waiting task without waking another thread. It saves a third of the cost of a call.
    ///
    ///     try await withTaskExecutorPreference(rpc.executor) {
    ///         let sum: Int = try await rpc.call("math", "add", [4, 9], timeout: .seconds(5))
    ///     }
    ///
    /// Code on this executor must be short and never block, as for that of an `AMQPPool`; for a caller on a pool, it is the pool's
    /// executor.
    public let executor: any TaskExecutor

    private let configuration: RPCCallerConfiguration
    private let current: CurrentIncarnation<CallTable>
    /// The last value of ``current``: reading that calls generic code of another module, which is too slow for each call.
    private let lastTable = Mutex<CallTable?>(nil)
    private let stateBroadcast: CallerStates
    let counters: CallerCounters
    private let logger: Logger
    /// The library's interceptors, then the configured ones.
    let interceptors: [any RPCCallerInterceptor]
    /// Replaces the broker in unit tests.
    private let wire: (any RPCWireReplacement)?

    /// Creates a caller; nothing runs before ``start()`` or ``run()``.
    ///
    /// - Parameters:
    ///   - service: The calling service: its reply queues begin with this name. At most 200 bytes.
    ///   - endpoints: The brokers to connect to, tried round robin.
    ///   - logger: The logger of the whole tree.
    public convenience init(service: String, endpoints: [Endpoint], logger: Logger? = nil) {
        self.init(service: service, configuration: RPCCallerConfiguration(endpoints: endpoints), logger: logger)
    }

    /// Creates a caller with these settings; nothing runs before ``start()`` or ``run()``.
    public convenience init(
        service: String,
        configuration: RPCCallerConfiguration,
        name: String = "caller",
        logger: Logger? = nil
    ) {
        self.init(service: service, configuration: configuration, on: nil, name: name, logger: logger, wire: nil)
    }

    /// Creates a caller that opens its channels on the connections of a shared pool: a process that calls, answers and publishes then has
    /// two connections instead of six.
    ///
    ///     let pool = AMQPPool(endpoints: endpoints)
    ///     let rpc = RPCCaller(service: "checkout", on: pool)
    ///     let service = Supervisor("checkout", strategy: .restForOne) {
    ///         pool.supervisor
    ///         rpc.supervisor
    ///     }
    ///
    /// It has its own channels in its own tree, with all the guarantees of a caller with its own connections: if something in it ends or is
    /// killed, that affects its channels and its reply queue but not the pool, and the loss of a connection of the pool has the effect of
    /// losing its own. Start the pool before the caller and stop it after: while the pool is not running, calls wait, and then fail with
    /// ``RPCError/notConnected(why:)``.
    ///
    /// - Parameters:
    ///   - service: The calling service: its reply queues begin with this name. At most 200 bytes.
    ///   - pool: The pool whose connections it uses.
    ///   - configuration: The settings. Of ``RPCCallerConfiguration/pool`` only those for channels and their reopening apply; endpoints,
    ///     connections and their settings are the pool's.
    ///   - name: The name of its supervisor.
    ///   - logger: The logger of the whole tree.
    public convenience init(
        service: String,
        on pool: AMQPPool,
        configuration: RPCCallerConfiguration = RPCCallerConfiguration(),
        name: String = "caller",
        logger: Logger? = nil
    ) {
        self.init(service: service, configuration: configuration, on: pool, name: name, logger: logger, wire: nil)
    }

    /// The same with a replacement of the broker: the tree is empty, and calls need not wait for anything.
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
        let metrics = MetricsSystem.activeFactory(configuration.metricsFactory)
        let counters = CallerCounters(metrics.map { CallerMetrics(service: service, factory: $0) })
        self.current = current
        self.counters = counters
        interceptors = configuration.allInterceptors
        let states = CallerStates(current, absent: .stopped) { $0.callerState }
        stateBroadcast = states
        supervisor =
            wire == nil
            ? Supervisor.caller(
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

    /// Starts the tree and returns when it is running, connected or not: ``waitUntilReady(timeout:)`` waits for a connection.
    public func start() async throws {
        try await supervisor.start()
    }

    /// Accepts no more calls, lets waiting calls complete, and closes.
    ///
    /// The same happens when the enclosing tree stops. If the caller ends while that tree keeps running, it is restarted: calls made in the
    /// meantime wait for that, within their deadlines.
    ///
    /// New calls fail immediately with ``RPCError/notConnected(why:)``, until it is started again. Waiting calls get their replies within
    /// ``RPCCallerConfiguration/drainTimeout``; calls that wait longer, or cannot be sent because there is no connection, fail with
    /// ``RPCError/callerRestarted(_:requestMayHaveBeenDelivered:)``.
    public func stop() async {
        current.stop()
        await supervisor.stop()
    }

    /// Runs the tree until a graceful shutdown, the cancellation of the task, or its own end.
    ///
    /// - Throws: Why it ended without having been asked to: an `RPCTopologyError` when the broker refuses the exchange or the reply queue
    ///   at the first open, or the error for which the tree gave up.
    public func run() async throws {
        try await supervisor.run()
    }

    /// Waits until a call could be sent immediately.
    ///
    /// - Throws: ``RPCError/notConnected(why:)`` with the failed attempts after the timeout, ``RPCError/blocked(why:)``,
    ///   ``RPCError/cancelled(requestMayHaveBeenDelivered:)``.
    public nonisolated(nonsending) func waitUntilReady(timeout: Duration = .seconds(30)) async throws(RPCError) {
        let request = OutgoingRequest(kind: .readiness, destination: "", deadline: try deadline(after: timeout))
        if wire != nil { return }
        _ = try await perform(RequestID(), request, CallOptions())
    }

    /// The current state of the caller, and each change. Does not end. At most 16 states are buffered, then the oldest are dropped.
    public var states: AsyncStream<RPCCallerState> { stateBroadcast.stream }

    // MARK: Inspection

    /// A snapshot of the tree.
    public func tree() -> SupervisionTree { supervisor.tree() }

    /// The current reply queue; `nil` while the tree is not running, and with ``RPCReplies/direct``. It changes when the queue is lost, and
    /// with each incarnation of the pending table.
    public var replyQueueName: String? {
        switch configuration.replies {
        case .queue: current.value?.state.withLock { $0.replyQueue.name }
        case .direct: nil
        }
    }

    /// The number of waiting calls and casts.
    public var pendingCount: Int { current.value?.count ?? 0 }

    /// The counts since this object was created.
    public var counts: RPCCallerCounts { counters.current }

    // MARK: Calling

    /// Calls a procedure of a service and returns its result.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: The procedure.
    ///   - argument: The argument, sent as JSON: any `Encodable`, including a single number or string.
    ///   - timeout: How long to wait for the reply, from now on; after that the broker drops the request, and the handler is cancelled.
    ///     `nil` for ``RPCCallerConfiguration/timeout``. In a handler the call ends at the handler's own deadline at the latest: see
    ///     `RPCDeadline`.
    ///   - retry: Whether it is sent again when its outcome is unknown.
    ///   - type: The type of the result, if it is not clear from the context.
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

    /// Calls a procedure with a shared declaration, and returns its result.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: The declaration of the procedure, with its types and codecs.
    ///   - argument: The argument.
    ///   - timeout: As for ``call(_:_:_:timeout:retry:as:)``.
    ///   - retry: Whether it is sent again when its outcome is unknown.
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

    /// Calls a procedure of a service with a shared contract, and returns its result.
    ///
    /// - Parameters:
    ///   - service: The contract of the service, with its name.
    ///   - procedure: One of its procedures.
    ///   - argument: The argument.
    ///   - timeout: As for ``call(_:_:_:timeout:retry:as:)``.
    ///   - retry: Whether it is sent again when its outcome is unknown.
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

    /// Sends a request without a reply to a service with a shared contract, and returns when the broker has confirmed it.
    ///
    /// - Throws: ``RPCError``, as for ``call(_:_:_:timeout:retry:as:)``, except the cases about replies.
    public nonisolated(nonsending) func cast<Service: RPCService, Request, Response>(
        _ service: Service.Type,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) {
        try await cast(Service.name, procedure, argument, timeout: timeout, retry: retry)
    }

    /// Asks a service for the description of its procedures.
    ///
    /// - Throws: ``RPCError``; with `RPCFailure.Code.unknownProcedure` from a receiver that does not describe itself.
    public nonisolated(nonsending) func describe(
        _ destination: String,
        timeout: Duration? = nil
    ) async throws(RPCError) -> RPCServiceDescription {
        try await call(destination, RPCServiceDescription.procedure, .null, timeout: timeout)
    }

    /// Sends a request without a reply, and returns when the broker has confirmed it.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: The procedure.
    ///   - argument: The argument.
    ///   - timeout: How long to wait for the broker. `nil` for ``RPCCallerConfiguration/timeout``.
    ///   - retry: Whether it is sent again when its outcome is unknown.
    /// - Throws: ``RPCError``, as for ``call(_:_:_:timeout:retry:as:)``, except the cases about replies.
    public nonisolated(nonsending) func cast(
        _ destination: String,
        _ procedure: String,
        _ argument: some Encodable,
        timeout: Duration? = nil,
        retry: RPCRetry = .never
    ) async throws(RPCError) {
        _ = try await sendJSON(.cast, destination, procedure, argument, timeout: timeout, CallOptions(retry: retry))
    }

    /// Sends a request without a reply to a declared procedure, and returns when the broker has confirmed it.
    ///
    /// - Parameters:
    ///   - destination: The service.
    ///   - procedure: The declaration of the procedure.
    ///   - argument: The argument.
    ///   - timeout: How long to wait for the broker. `nil` for ``RPCCallerConfiguration/timeout``.
    ///   - retry: Whether it is sent again when its outcome is unknown.
    /// - Throws: ``RPCError``, as for ``call(_:_:_:timeout:retry:as:)``, except the cases about replies.
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

    /// Calls the server of a queue through the default exchange: a server that knows nothing about services, such as that of RabbitMQ's
    /// tutorial.
    ///
    /// - Parameters:
    ///   - queue: The queue's name. If it does not exist, the call fails with ``RPCError/unroutable(destination:)``.
    ///   - procedure: The value of the header `procedure`, if the server expects one.
    ///   - argument: The argument, sent as JSON.
    ///   - timeout: As for ``call(_:_:_:timeout:retry:as:)``.
    ///   - retry: Whether it is sent again when its outcome is unknown.
    ///   - type: The type of the result, if it is not clear from the context.
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

    /// Calls the server of a queue with a shared declaration: with a `TextCodec`, for example, a server that exchanges plain text.
    ///
    /// The declaration's name is sent in the header `procedure`; without a name there is no such header.
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

/// Everything between the arguments of a call and its result.
extension RPCCaller {
    // MARK: Sending

    private nonisolated(nonsending) func sendJSON(
        _ kind: CallKind,
        _ destination: String,
        _ procedure: String?,
        _ argument: some Encodable,
        timeout: Duration?,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let body = try Self.encode { () throws(RPCCodecError) in try JSON.encode(argument) }
        return try await send(kind, destination, procedure, JSON.contentType, body, timeout: timeout, options)
    }

    private nonisolated(nonsending) func sendDeclared<Request, Response>(
        _ kind: CallKind,
        _ destination: String,
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        timeout: Duration?,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let codec = procedure.request
        let body = try Self.encode { () throws(RPCCodecError) in try codec.encode(argument) }
        return try await send(kind, destination, procedure.name, codec.contentType, body, timeout: timeout, options)
    }

    private static func encode(_ body: () throws(RPCCodecError) -> ByteBuffer) throws(RPCError) -> ByteBuffer {
        do throws(RPCCodecError) {
            return try body()
        } catch {
            throw .invalidRequest("the argument cannot be encoded: \(error)")
        }
    }

    /// Calls with an encoded body and additional headers, and returns the reply undecoded.
    ///
    /// - Parameter isQueue: Whether the destination is a queue, addressed through the default exchange.
    package nonisolated(nonsending) func call(
        _ destination: String,
        isQueue: Bool,
        procedure: String?,
        contentType: String,
        headers: FieldTable,
        body: ByteBuffer,
        timeout: Duration?,
        retry: RPCRetry
    ) async throws(RPCError) -> RPCReply {
        let options = CallOptions(queue: isQueue ? destination : nil, retry: retry)
        return try await send(
            .call,
            destination,
            procedure,
            contentType,
            body,
            headers: headers,
            timeout: timeout,
            options
        )
    }

    /// Sends a request through the interceptors, and waits for its outcome.
    private nonisolated(nonsending) func send(
        _ kind: CallKind,
        _ destination: String,
        _ procedure: String?,
        _ contentType: String,
        _ body: ByteBuffer,
        headers: FieldTable = FieldTable(),
        timeout: Duration?,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let id = RequestID()
        let request = OutgoingRequest(
            kind: kind,
            destination: destination,
            procedure: procedure,
            contentType: contentType,
            headers: headers,
            body: body,
            deadline: try deadline(after: timeout ?? configuration.timeout)
        )
        let start = counters.began()
        do throws(RPCError) {
            let reply =
                interceptors.isEmpty
                ? try await exchange(request, id, options) : try await intercepted(request, id, options)
            if let start { counters.ended(destination, procedure, since: start, error: nil) }
            return reply
        } catch {
            if let start { counters.ended(destination, procedure, since: start, error: error) }
            logger.debug("a call failed", metadata: Self.metadata(request, id, error))
            // If many calls fail at once and their callers retry immediately, they would never give up their threads: the recovery from the
            // failure needs them too.
            await Task.yield()
            throw error
        }
    }

    private static func metadata(_ request: OutgoingRequest, _ id: RequestID, _ error: RPCError) -> Logger.Metadata {
        let metadata: Logger.Metadata = [
            LogKey.messageID.rawValue: "\(id)", LogKey.destination.rawValue: "\(request.destination)",
            LogKey.procedure.rawValue: "\(request.procedure ?? "")", LogKey.outcome.rawValue: "\(error.kind)",
            LogKey.error.rawValue: "\(error)",
        ]
        return metadata.escaped
    }

    private func intercepted(
        _ request: OutgoingRequest,
        _ id: RequestID,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        let ids = RequestIDs(first: id)
        let deadline = request.deadline.instant
        let all = RPCCallerNext(interceptors[...]) { [self] request throws(RPCError) in
            var (request, options) = (request, options)
            request.deadline = min(request.deadline, deadline)
            guard request.deadline > .now else { throw .timeout(requestMayHaveBeenDelivered: false) }
            if options.queue != nil { options.queue = request.destination }
            return try await exchange(OutgoingRequest(request), ids.next(), options)
        }
        return try await all(request.request(id))
    }

    private nonisolated(nonsending) func exchange(
        _ request: OutgoingRequest,
        _ id: RequestID,
        _ options: CallOptions
    ) async throws(RPCError) -> RPCReply {
        try Self.check(request.destination, options.queue == nil ? "service" : "queue")
        if let procedure = request.procedure { try Self.check(procedure, "procedure") }
        if configuration.whenNobodyServes.asksBroker, options.queue == nil, wire == nil,
            await current.value?.isUnserved(request.destination, before: request.deadline) == true
        {
            throw .noReceiver(destination: request.destination)
        }
        let reply: ReplyMessage
        if let wire {
            let isQueue = options.queue != nil
            let message = RequestMessage(
                id: id,
                destination: isQueue ? nil : request.destination,
                procedure: request.procedure,
                replyTo: request.kind.awaitsReply ? configuration.names.replyQueue(of: service, id: id) : nil,
                remaining: request.kind.awaitsReply ? CompactInstant.now.duration(to: request.deadline) : nil,
                contentType: request.contentType,
                headers: request.headers,
                body: request.body
            )
            let answer = try await wire.send(message, queue: options.queue, before: request.deadline.instant)
            guard let answer else { return RPCReply(contentType: nil) }
            reply = answer
        } else {
            let ending = try await perform(id, request, options)
            guard case .reply(let answer) = ending else { return RPCReply(contentType: nil) }
            reply = answer
        }
        if let failure = reply.failure { throw .remote(failure) }
        return reply.result
    }

    /// RabbitMQ removes line breaks from queue names, and would address another queue than intended.
    private static func check(_ name: String, _ what: String) throws(RPCError) {
        guard !name.hasControlCharacter else {
            throw .invalidRequest("\"\(name.escaped)\" is not a valid name for a \(what): it has a control character")
        }
    }

    /// The deadline of a call that is made now: its own timeout, or the remaining time of the request that this task handles.
    private func deadline(after timeout: Duration) throws(RPCError) -> CompactInstant {
        if Task.isCancelled { throw .cancelled(requestMayHaveBeenDelivered: false) }
        let now = CompactInstant.now
        var deadline = now + min(timeout, .milliseconds(RequestMessage.maximumTimeoutMilliseconds))
        if let inherited = RPCDeadline.inherited, inherited < deadline { deadline = inherited }
        guard deadline > now else { throw .timeout(requestMayHaveBeenDelivered: false) }
        return deadline
    }

    private nonisolated(nonsending) func perform(
        _ id: RequestID,
        _ request: OutgoingRequest,
        _ options: CallOptions
    ) async throws(RPCError) -> PendingCall.Ending {
        if case .idempotent(_, let backoff) = options.retry, let problem = backoff.problem {
            throw .invalidRequest(problem)
        }
        var options = options
        var ended: CallTable?
        // Its outcome in a table that has ended, when the next table may send it again.
        var doubt: RPCError?
        while true {
            let table: CallTable
            do throws(RPCError) {
                table = try await self.table(otherThan: ended, before: request.deadline)
            } catch {
                throw doubt ?? error
            }
            switch await perform(id, request, options, in: table) {
            case .notAccepted: ended = table
            case .failed(let error):
                throw doubt.flatMap { error.requestMayHaveBeenProcessed ? nil : $0 } ?? error
            // Readiness is checked again with the next table.
            case .restarted where !request.kind.isRequest: ended = table
            case .restarted(let reason, let mayHaveBeenDelivered, let retriesLeft):
                let mayHaveBeenDelivered = mayHaveBeenDelivered || doubt != nil
                let error = RPCError.callerRestarted(reason, requestMayHaveBeenDelivered: mayHaveBeenDelivered)
                guard retriesLeft > 0 else { throw error }
                counters.retried()
                options.retry = options.retry.limited(toRetries: retriesLeft - 1)
                doubt = mayHaveBeenDelivered ? error : nil
                ended = table
            case let ending: return ending
            }
        }
    }

    private nonisolated(nonsending) func table(
        otherThan ended: CallTable?,
        before deadline: CompactInstant
    ) async throws(RPCError) -> CallTable {
        // Fast path: usually the table of the last call is still current. If it has ended, it says so.
        if let table = lastTable.withLock({ $0 }), table !== ended { return table }
        lastTable.withLock { $0 = nil }
        do throws(CurrentIncarnation<CallTable>.Absence) {
            let table = try await current.value(otherThan: ended, before: deadline.instant)
            lastTable.withLock { $0 = table }
            return table
        } catch {
            switch error {
            case .ended(.normal), .ended(.shutdown(nil)): throw .notConnected(why: "the caller is stopped")
            case .ended(let reason): throw .notConnected(why: "the caller has ended: \(reason)")
            case .deadline: throw .notConnected(why: "the caller is not running")
            case .cancelled: throw .cancelled(requestMayHaveBeenDelivered: false)
            case .overloaded(let limit): throw .overloaded(limit: limit)
            }
        }
    }

    private nonisolated(nonsending) func perform(
        _ id: RequestID,
        _ request: OutgoingRequest,
        _ options: CallOptions,
        in table: CallTable
    ) async -> PendingCall.Ending {
        await withTaskCancellationHandler {
            await withPendingContinuation { continuation in
                table.begin(
                    PendingCall(
                        id: id,
                        request: request,
                        options: options,
                        table: table,
                        continuation: continuation
                    )
                )
            }
        } onCancel: {
            table.cancel(id)
        }
    }
}

extension RPCCaller: HealthReporting {
    /// The current state; ``states`` has the changes.
    public var state: RPCCallerState {
        if wire != nil { return .ready }
        return current.value?.callerState ?? .stopped
    }

    /// Whether a call would be sent immediately.
    public var isReady: Bool { state == .ready }

    /// Whether it works, and if not, which attempts failed.
    public var health: Health.Part {
        let name = supervisor.name
        return switch state {
        case .ready: .ready(name)
        case .blocked, .connecting: .notReady(name, why: "\(current.value?.registry.reasonForNone ?? .poolNotRunning)")
        case .stopping: .notReady(name, why: "stopping: \(pendingCount) calls wait")
        case .stopped: .absent(name, because: current.ended)
        }
    }
}

extension RPCCaller {
    /// The activity of its calls, counted while somebody watches.
    package var observation: CallObservation { counters.observation }

    /// Its channels and connections; `nil` while it is not running.
    package var channelRegistry: ChannelRegistry? { current.value?.registry }

    /// - Parameter limit: The maximum number of oldest calls to list.
    package func look(oldest limit: Int = 50) -> RPCCallerLook {
        var look = RPCCallerLook(
            service: service,
            state: .stopped,
            replyQueue: replyQueueName,
            replyConsumers: 0,
            maximumCallsInFlight: configuration.maximumCallsInFlight,
            waiting: 0,
            submitted: 0,
            counts: counts,
            oldest: [],
            statistics: observation.statistics
        )
        guard let table = current.value else { return look }
        look.state = table.callerState
        let now = CompactInstant.now
        table.state.withLock { state in
            look.replyConsumers = state.replyQueue.consuming.count
            look.waiting = state.pending.count - state.pending.submittedCount
            look.submitted = state.pending.submittedCount
            look.oldest = state.pending.oldest(limit, at: now) { ($0.request.destination, $0.request.procedure) }
        }
        return look
    }
}

private nonisolated(nonsending) func withPendingContinuation(
    _ body: (PendingContinuation) -> Void
) async -> PendingCall.Ending {
    #if DEBUG
    await withCheckedContinuation(body)
    #else
    await withUnsafeContinuation(body)
    #endif
}

/// The ids of one intercepted call: an interceptor that sends again sends another request.
private final class RequestIDs: Sendable {
    private let first: RequestID
    private let isUsed = Atomic(false)

    init(first: RequestID) {
        self.first = first
    }

    func next() -> RequestID {
        isUsed.exchange(true, ordering: .relaxed) ? RequestID() : first
    }
}

extension RPCReply {
    /// The result of a call without a declaration.
    func json<Output: Decodable>() throws(RPCError) -> Output {
        guard JSON.accepts(contentType: contentType) else {
            throw .unexpectedContentType(contentType ?? "", expected: JSON.contentType)
        }
        return try decode { () throws(RPCCodecError) in try JSON.decode(Output.self, from: body) }
    }

    /// The result of a call with a declaration.
    func decoded<Response>(by codec: any RPCCodec<Response>) throws(RPCError) -> Response {
        guard codec.accepts(contentType) else {
            throw .unexpectedContentType(contentType ?? "", expected: codec.contentType)
        }
        return try decode { () throws(RPCCodecError) in try codec.decode(body) }
    }

    private func decode<Output>(_ body: () throws(RPCCodecError) -> Output) throws(RPCError) -> Output {
        do throws(RPCCodecError) {
            return try body()
        } catch {
            throw .undecodableReply("\(error)")
        }
    }
}
