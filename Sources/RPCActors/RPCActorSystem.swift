public import AMQPPool
import ConcurrencyPrimitives
public import Distributed
import Foundation
public import Logging
import NIOCore
import NIOFoundationCompat
public import RPCCaller
import RPCReceiver
import RPCWire
public import ServiceLifecycle
public import Supervision
import Synchronization

/// Distributed actors over RabbitMQ: actors of a service, actors of a node, and virtual actors, with supervision across machines.
///
///     let actors = RPCActorSystem(service: "bank", endpoints: endpoints) {
///         Export(BankTeller.self, as: $Teller<RPCActorSystem>.self, errors: Insufficient.self)
///     }
///     let bank = Supervisor("bank", strategy: .restForOne) {
///         actors.supervisor
///         Child.distributed("teller", in: actors) { BankTeller(actorSystem: $0) }
///     }
///
/// A call is one RPC, with all properties of an `RPCCaller`'s call: a deadline that the actor's method inherits, an error that tells
/// whether the request may have been processed, exactly one outcome. Only exported methods can be called.
///
/// The broker is the only infrastructure: no ports between nodes, no coordinator, no plugin. A process that only makes calls has no
/// exports, and is not a node.
///
/// The tree:
///
///     actors                 rest for one
///     |- amqp-pool           the connections, unless they are shared with others
///     `- parts               one for one
///        |- events           receives the ends of nodes and actors, and new nodes
///        |- caller           makes calls
///        |- node-calls       ends calls at nodes whose queues are gone
///        |- node             one for all: the node's name, its queue, its life; each incarnation has another name
///        `- receiver         answers for the service
public final class RPCActorSystem: DistributedActorSystem, Service, Sendable {
    /// Addresses of actors.
    public typealias ActorID = ActorAddress
    /// Arguments and results are `Codable`.
    public typealias SerializationRequirement = any Codable
    /// The encoder of arguments.
    public typealias InvocationEncoder = RPCInvocationEncoder
    /// The decoder of arguments.
    public typealias InvocationDecoder = RPCInvocationDecoder
    /// Stores the result.
    public typealias ResultHandler = RPCResultHandler

    /// The service that this process is a node of.
    public let service: String
    /// The supervision tree; list it before the children that are distributed actors.
    public let supervisor: Supervisor
    /// The connections.
    public let pool: AMQPPool
    /// The caller: its counts and states are those of the actors' calls.
    public let caller: RPCCaller

    let name: NodeName
    let local = LocalActors()
    let events: NodeEvents
    let jobs = ShardJobs()
    private let nodeCalls: NodeCalls
    /// The supervisor with which everything here ends, while it runs.
    private let parts = Mutex<SupervisorReference?>(nil)
    let logger: Logger
    let isHosting: Bool
    /// Runs requests for the node and its shards.
    let nodeReceiver: RPCReceiver
    private let serviceReceiver: RPCReceiver?
    private let exports: Mutex<Exports>
    private let probes: [@Sendable (RPCActorSystem) async -> Void]
    private let errors: [String: any (Codable & Error).Type]
    private let names = Mutex<[String: String]>([:])
    private let coders = Mutex<Coders?>(nil)
    private let incarnations = Atomic<UInt64>(0)
    private let kinds = Mutex(HeldKinds())
    private let isSayingHelloAgain = Mutex(false)
    private let living = Mutex<LivingNode?>(nil)
    /// Fires for each kind of virtual actors when its shards are consumed here.
    private let hosts = Mutex<[String: OneShot<Void>]>([:])

    // MARK: Creation

    /// Creates a system with its own connections; nothing runs before its ``supervisor`` does.
    ///
    /// - Parameters:
    ///   - service: The service that this process is a node of, or the name that its calls are made under.
    ///   - endpoints: The brokers to connect to, tried round robin.
    ///   - errors: The errors of remote methods that are decoded as their types.
    ///   - logger: The logger of the whole tree.
    ///   - exports: What can be called remotely; nothing for a process that only makes calls.
    public convenience init(
        service: String,
        endpoints: [Endpoint],
        errors: [any (Codable & Error).Type] = [],
        logger: Logger? = nil,
        @ExportsBuilder exports: () -> [Export] = { [] }
    ) {
        self.init(
            service: service,
            configuration: RPCActorConfiguration(endpoints: endpoints),
            errors: errors,
            logger: logger,
            exports: exports
        )
    }

    /// Creates a system with these settings; nothing runs before its ``supervisor`` does.
    ///
    /// - Parameters:
    ///   - service: The service that this process is a node of, or the name that its calls are made under. It must not contain any of `!`,
    ///     `@`, `#`, `/`.
    ///   - sharedPool: A pool that is shared with others, started before and stopped after; `nil` for own connections.
    ///   - configuration: The settings.
    ///   - name: The name of its supervisor.
    ///   - errors: The errors of remote methods that are decoded as their types.
    ///   - logger: The logger of the whole tree.
    ///   - exports: What can be called remotely; nothing for a process that only makes calls.
    public init(
        service: String,
        on sharedPool: AMQPPool? = nil,
        configuration: RPCActorConfiguration = RPCActorConfiguration(),
        name: String = "actors",
        errors: [any (Codable & Error).Type] = [],
        logger: Logger? = nil,
        @ExportsBuilder exports: () -> [Export] = { [] }
    ) {
        let exported = exports()
        let logger = logger ?? Logger(label: "rpc.actors")
        self.service = service
        self.logger = logger
        isHosting = !exported.isEmpty
        self.exports = Mutex(Exports(exported))
        probes = exported.flatMap(\.probes)
        let allErrors = errors + exported.flatMap(\.errors)
        self.errors = Dictionary(allErrors.map { (_typeName($0, qualified: true), $0) }) { first, _ in first }
        let nodeName = NodeName(service: service)
        self.name = nodeName
        var poolConfiguration = configuration.pool
        if poolConfiguration.connection.name == nil { poolConfiguration.connection.name = service }
        let pool = sharedPool ?? AMQPPool(configuration: poolConfiguration, logger: logger)
        self.pool = pool

        // The objects created here access the system only when they are used, after its initialization.
        let this = WeakSystem()
        var calling = configuration.caller
        calling.replies = .queue
        calling.bounceExchange = RPCActorConfiguration.bounceExchange
        let caller = RPCCaller(service: service, on: pool, configuration: calling, logger: logger)
        self.caller = caller

        var receiving = configuration.receiver
        receiving.bindings = [.service]
        receiving.queue = nil
        let serviceProcedures = RPCHandlers(knows: { this.system?.knows($0) ?? false }) { body, _, context in
            guard let system = this.system else { throw CancellationError() }
            return try await system.answerForService(body, context)
        }
        serviceReceiver =
            exported.isEmpty
            ? nil
            : RPCReceiver(
                service: service,
                on: pool,
                configuration: receiving,
                logger: logger,
                procedures: serviceProcedures
            )

        var ofNode = configuration.receiver
        ofNode.bindings = []
        ofNode.queueName = { nodeName.current }
        // Newer brokers refuse queues that are neither durable nor exclusive; it is deleted by its expiry.
        ofNode.queueIsDurable = true
        ofNode.concurrency = max(1, configuration.nodeConcurrency)
        // Requests that are not taken immediately may be returned to their caller although the node lives.
        ofNode.channelPrefetch = 0
        ofNode.whenBusy = .leaveInQueue
        // A node that continues under another name is lost for everybody: requests for the old name are returned immediately.
        ofNode.drains = { this.system?.isStopping ?? true }
        var arguments = QueueArguments(type: .classic)
        // Without it nothing would be returned.
        arguments.messageTTL = min(max(.milliseconds(1), configuration.bounceAfter), .seconds(86_400))
        arguments.expires = RPCActorConfiguration.queueExpiry
        arguments.deadLetterExchange = RPCActorConfiguration.bounceExchange
        if let table = try? arguments.fieldTable() { ofNode.queueArguments = table }
        let nodeProcedures = RPCHandlers(knows: { this.system?.knows($0) ?? false }) { body, _, context in
            guard let system = this.system else { throw CancellationError() }
            return try await system.answerForNode(body, context)
        }
        nodeReceiver = RPCReceiver(
            service: service,
            on: pool,
            configuration: ofNode,
            logger: logger,
            procedures: nodeProcedures
        )
        let events = NodeEvents(
            pool,
            hosted: exported.isEmpty ? nil : service,
            logger: logger,
            asked: { hash in this.system?.asked(serviceHash: hash) },
            recheck: { await this.system?.isThere($0) }
        )
        self.events = events
        nodeCalls = NodeCalls(every: configuration.nodeCheckInterval) { await this.system?.hasNoQueue($0) ?? false }
        let (nodeReceiver, serviceReceiver, isHosting) = (nodeReceiver, serviceReceiver, isHosting)
        let nodeCalls = nodeCalls
        let life = configuration.life
        supervisor = Supervisor(name, strategy: .restForOne, logger: logger) {
            if sharedPool == nil { pool.supervisor }
            Supervisor("parts", strategy: .oneForOne) {
                Child("setup") { context -> SystemSetup? in
                    try RPCActorSystem.check(service: service, exported)
                    guard let system = this.system else { return nil }
                    return await SystemSetup(system, context)
                }
                Child("events", options: ChildOptions(backoff: RPCActorSystem.backoff)) { context in
                    NodeEventsProcess(context, pool, events)
                }
                caller.supervisor
                Child("node-calls") { _ in NodeCallsProcess(nodeCalls) }
                if isHosting {
                    Supervisor("node", strategy: .oneForAll, whenExceeded: .cooldown(.seconds(5))) {
                        Child("name") { context in
                            NodeIdentity(nodeName, context: context) { this.system?.nodeEnded($0) }
                        }
                        nodeReceiver.supervisor
                        Child("life", options: ChildOptions(backoff: RPCActorSystem.backoff)) { context in
                            Life(context, pool, nodeName, settings: life, events: events) { living in
                                this.system?.lives(living)
                            }
                        }
                    }
                }
                if let serviceReceiver { serviceReceiver.supervisor }
            }
        }
        this.set(self)
    }

    private static let backoff = Backoff(minimum: .milliseconds(50), maximum: .seconds(5), jitter: 1)

    private static func check(service: String, _ exports: [Export]) throws(RPCActorConfigurationError) {
        guard !ActorAddress.hasSeparator(service) else { throw .invalidService(service) }
        if let unusable = exports.first(where: { !$0.interface.isUsable }) {
            throw .unusableExport(type: unusable.typeName)
        }
    }

    // MARK: Running

    /// The name of this node: it changes when the broker has lost the node's connection.
    public var node: String { name.current }

    /// Starts the tree, for a system that is not part of a larger one.
    public func start() async throws {
        try await supervisor.start()
    }

    /// Runs the tree until a graceful shutdown, the cancellation of the task, or its own end.
    public func run() async throws {
        try await supervisor.run()
    }

    /// Stops the tree.
    public func stop() async {
        await supervisor.stop()
    }

    /// Waits until calls can be made and, on a node, requests arrive: for the service, the node, and the virtual actors whose children have
    /// been started.
    ///
    /// - Throws: The failed attempts, after the timeout.
    public func waitUntilReady(timeout: Duration = .seconds(30)) async throws {
        let timeout = timeout.bounded
        let deadline = ContinuousClock.now + timeout
        try await caller.waitUntilReady(timeout: timeout)
        for receiver in [isHosting ? nodeReceiver : nil, serviceReceiver] {
            try await receiver?.waitUntilReady(timeout: ContinuousClock.now.duration(to: deadline))
        }
        for (kind, host) in hosts.withLock({ $0 }) {
            guard await host.wait(atMost: ContinuousClock.now.duration(to: deadline)) == nil else { continue }
            try Task.checkCancellation()
            throw AMQPError.timedOut(operation: "consuming the shards of \"\(kind)\"", after: timeout)
        }
    }

    /// A host of virtual actors was started; the result fires when it consumes.
    func hosting(_ kind: String) -> OneShot<Void> {
        hosts.withLock { hosts in
            // Waiting is per kind: if an incarnation did not get to it, the next one does.
            if let awaited = hosts[kind], awaited.current == nil { return awaited }
            let ready = OneShot<Void>()
            hosts[kind] = ready
            return ready
        }
    }

    /// The number of requests for actors that were answered with a result since this object was created.
    public var answered: Int { nodeReceiver.counts.answered + (serviceReceiver?.counts.answered ?? 0) }

    // MARK: Names

    private func knows(_ method: String) -> Bool { exports.withLock { $0.knows(method) } }

    /// Records the names of the listed methods.
    fileprivate func findNames() async {
        for probe in probes {
            let recorder = MethodRecorder()
            await RemoteCall.$recorder.withValue(recorder) { await probe(self) }
            guard let target = recorder.target else { continue }
            exports.withLock { $0.learn(name: MethodName.of(target), identifier: target.identifier) }
        }
    }

    private func methodName(of target: RemoteCallTarget) -> String {
        if let known = names.withLock({ $0[target.identifier] }) { return known }
        let name = MethodName.of(target)
        names.withLock { $0[target.identifier] = name }
        return name
    }

    // MARK: Coders

    private struct Coders {
        let encoder: JSONEncoder
        let decoder: JSONDecoder
    }

    /// They refer to the system, so that actor references can be arguments, and are released when the tree ends.
    private var currentCoders: Coders {
        coders.withLock { coders in
            if let coders { return coders }
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.withoutEscapingSlashes]
            encoder.userInfo[.actorSystemKey] = self
            let decoder = JSONDecoder()
            decoder.userInfo[.actorSystemKey] = self
            let new = Coders(encoder: encoder, decoder: decoder)
            coders = new
            return new
        }
    }

    fileprivate func began(_ parts: SupervisorReference) { self.parts.withLock { $0 = parts } }

    /// Whether the whole system is being stopped, instead of a part of it being restarted.
    private var isStopping: Bool { parts.withLock { $0 }.map { $0.endingReason != nil } ?? true }

    fileprivate func ended() {
        parts.withLock { $0 = nil }
        coders.withLock { $0 = nil }
        living.withLock { $0 = nil }
    }

    // MARK: DistributedActorSystem

    /// The actor of this address if it is in this process and of this type; otherwise the runtime creates a proxy.
    public func resolve<Act: DistributedActor>(id: ActorID, as actorType: Act.Type) throws -> Act?
    where Act.ID == ActorID {
        // An actor of another type is called through a proxy: the stub of a local actor. So is a virtual one, whose calls take turns.
        guard !id.route.isShard, case .found(let actor, _) = local.find(id) else { return nil }
        return actor as? Act
    }

    /// Assigns the address of a new actor: the one it is created for, or one of this node.
    public func assignID<Act: DistributedActor>(_ actorType: Act.Type) -> ActorID where Act.ID == ActorID {
        let incarnation = incarnations.add(1, ordering: .relaxed).newValue
        if let address = Hosting.current?.take(for: actorType) {
            return ActorAddress(destination: address.destination, name: address.name, incarnation: incarnation)
        }
        return .node(node, "\(Act.self)-\(incarnation)", incarnation: incarnation)
    }

    /// Makes the actor callable, as far as it is exported.
    public func actorReady<Act: DistributedActor>(_ actor: Act) where Act.ID == ActorID {
        switch actor.id.route {
        case .service, .shard: local.add(actor.id, .strong(actor))
        case .node: local.add(actor.id, .weak(WeakActor(actor)))
        }
    }

    /// Removes the actor.
    public func resignID(_ id: ActorID) {
        local.remove(id)
        if id.route.isOneNode { announceEnd(of: id, .normal) }
    }

    /// Creates the encoder of a call.
    public func makeInvocationEncoder() -> InvocationEncoder { RPCInvocationEncoder(currentCoders.encoder) }

    /// Sends a call and waits for its result.
    public func remoteCall<Act, Failure, Result>(
        on actor: Act,
        target: RemoteCallTarget,
        invocation: inout InvocationEncoder,
        throwing: Failure.Type,
        returning: Result.Type
    ) async throws -> Result where Act: DistributedActor, Act.ID == ActorID, Failure: Error, Result: Codable {
        let reply = try await send(actor.id, target, invocation)
        do {
            return try currentCoders.decoder.decode(
                Result.self,
                from: Data(buffer: reply, byteTransferStrategy: .automatic)
            )
        } catch {
            throw RPCActorError.undecodableResult("\(RPCCodecError(error))")
        }
    }

    /// Sends a call without a result and waits for its end.
    public func remoteCallVoid<Act, Failure>(
        on actor: Act,
        target: RemoteCallTarget,
        invocation: inout InvocationEncoder,
        throwing: Failure.Type
    ) async throws where Act: DistributedActor, Act.ID == ActorID, Failure: Error {
        _ = try await send(actor.id, target, invocation)
    }

    // MARK: Calling

    private func send(
        _ address: ActorAddress,
        _ target: RemoteCallTarget,
        _ invocation: InvocationEncoder
    ) async throws -> ByteBuffer {
        if let recorder = RemoteCall.recorder {
            recorder.record(target)
            throw CancellationError()
        }
        guard invocation.substitutions <= 1 else {
            throw RPCActorError.unknownMethod(
                "\(methodName(of: target)) is generic; only methods of concrete types can be called"
            )
        }
        let headers = FieldTable(entries: [
            .init(key: ActorHeader.actor, value: .string(address.name)),
            .init(key: ActorHeader.target, value: .string(target.identifier)),
            // The caller's reply queue, which the caller inserts.
            .init(key: Header.caller, value: .void),
        ])
        let (method, body) = (methodName(of: target), invocation.body)
        guard address.route.isOneNode else {
            do throws(RPCError) {
                return try await call(address, method, headers, body).body
            } catch {
                throw explain(error, address)
            }
        }
        let outcome = await nodeCalls.run(address.destination) { [self] in
            do throws(RPCError) {
                return .success(try await call(address, method, headers, body))
            } catch {
                return .failure(error)
            }
        }
        switch outcome {
        case .success(let reply): return reply.body
        case .failure(let error): throw explain(error, address)
        case nil: throw RPCActorError.nodeDown(address)
        }
    }

    private nonisolated(nonsending) func call(
        _ address: ActorAddress,
        _ method: String,
        _ headers: FieldTable,
        _ body: ByteBuffer,
        timeout: Duration? = nil
    ) async throws(RPCError) -> RPCReply {
        guard address.isValid else { throw .invalidRequest("not an address of an actor: \(address)") }
        let options = RemoteCall.current
        return try await caller.call(
            address.destination,
            isQueue: address.route.isQueue,
            procedure: method,
            contentType: JSON.contentType,
            headers: headers,
            body: body,
            timeout: timeout ?? options.timeout,
            retry: options.retry
        )
    }

    /// Converts an error of RPC into that of a call to an actor.
    private func explain(_ error: RPCError, _ address: ActorAddress) -> any Error {
        switch error {
        case .unroutable: return RPCActorError.noProcess(address)
        case .cancelled where Task.isCancelled:
            return error.requestMayHaveBeenProcessed ? RPCActorError.rpc(error) : CancellationError()
        case .remote(let failure):
            switch failure.code {
            case .bounced: return RPCActorError.nodeDown(address)
            case .noProcess: return RPCActorError.noProcess(address)
            case .actorEnded: return RPCActorError.ended(address)
            case .unknownProcedure: return RPCActorError.unknownMethod(failure.message)
            case .undecodableRequest: return RPCActorError.undecodableArguments(failure.message)
            case .thrown: return thrown(failure)
            default: return RPCActorError.rpc(error)
            }
        case .noReceiver, .accessRefused, .timeout, .cancelled, .connectionLost, .replyQueueLost, .callerRestarted,
            .overloaded, .blocked, .notConnected, .rejectedByBroker, .invalidRequest, .unexpectedContentType,
            .undecodableReply:
            return RPCActorError.rpc(error)
        }
    }

    /// The error of the remote method, with its type if that is registered here. No type is looked up by name.
    func thrown(_ failure: RPCFailure) -> any Error {
        guard case .object(let details)? = failure.details, case .string(let type)? = details["type"],
            let value = details["value"]
        else { return RPCActorError.rpc(.remote(failure)) }
        if let known = errors[type], let bytes = try? JSON.encode(value),
            let error = try? currentCoders.decoder.decode(
                known,
                from: Data(buffer: bytes, byteTransferStrategy: .automatic)
            )
        {
            return error
        }
        return RemoteError(type: type, value: value)
    }

    /// Whether an actor exists now; `nil` if that is unknown.
    func isThere(_ address: ActorAddress) async -> Bool? {
        switch await ask(for: address) {
        case .isThere: true
        case .noActor, .bounced, .noQueue: false
        case .unknown: nil
        }
    }

    private func hasNoQueue(_ node: String) async -> Bool {
        await ask(for: ActorAddress(destination: node, name: "-")) == .noQueue
    }

    private enum Presence {
        case isThere
        case noActor
        /// The broker returned the request, because the node did not take it.
        case bounced
        /// The node's queue does not exist.
        case noQueue
        case unknown
    }

    private func ask(for address: ActorAddress) async -> Presence {
        let headers = FieldTable(entries: [
            .init(key: ActorHeader.actor, value: .string(address.name)),
            .init(key: ActorHeader.ask, value: "alive"),
            .init(key: Header.caller, value: .void),
        ])
        do throws(RPCError) {
            _ = try await call(address, "alive", headers, ByteBuffer(string: "[]"), timeout: .seconds(5))
            return .isThere
        } catch {
            switch error {
            case .unroutable: return .noQueue
            case .remote(let failure) where failure.code == .bounced: return .bounced
            case .remote(let failure) where failure.code == .noProcess: return .noActor
            case .remote, .noReceiver, .accessRefused, .timeout, .cancelled, .connectionLost, .replyQueueLost,
                .callerRestarted, .overloaded, .blocked, .notConnected, .rejectedByBroker, .invalidRequest,
                .unexpectedContentType, .undecodableReply:
                return .unknown
            }
        }
    }

    // MARK: Answering

    private func answerForService(_ body: ByteBuffer, _ context: RPCContext) async throws -> RPCReply {
        try await answer(body, context, at: service)
    }

    private func answerForNode(_ body: ByteBuffer, _ context: RPCContext) async throws -> RPCReply {
        if let job = jobs.take(context.headers) { return try await job(body, context) }
        return try await answer(body, context, at: node)
    }

    private func answer(_ body: ByteBuffer, _ context: RPCContext, at destination: String) async throws -> RPCReply {
        guard case .string(let name)? = context.headers[ActorHeader.actor] else {
            throw RPCFailure(code: .unknownProcedure, message: "the request has no header \"\(ActorHeader.actor)\"")
        }
        var address = ActorAddress(destination: destination, name: name)
        guard address.isValid else { throw RPCFailure(code: .undecodableRequest, message: "not a name of an actor") }
        // An actor of the service is also one of each node.
        if case .absent = local.find(address) { address = .service(service, name) }
        guard let (actor, incarnation) = await local.actor(address) else {
            if Task.isCancelled { throw CancellationError() }
            throw RPCFailure(code: .noProcess, message: "no actor \"\(name)\" at \(destination)")
        }
        return try await run(actor, address, incarnation, body, context)
    }

    /// Runs one request on an actor.
    func run(
        _ actor: any DistributedActor,
        _ address: ActorAddress,
        _ incarnation: UInt64,
        _ body: ByteBuffer,
        _ context: RPCContext
    ) async throws -> RPCReply {
        if context.headers[ActorHeader.ask] == "alive" {
            // Nobody would be notified of its end: whoever wants to know asks again.
            guard isAlive else {
                throw RPCFailure(code: .notAlive, message: "\(node) is not a node yet, or not any more")
            }
            return RPCReply(body: ByteBuffer(string: "true"))
        }
        let method = context.procedure
        var target: String?
        switch context.headers[ActorHeader.target] {
        case nil, .void: break
        case .string(let identifier): target = identifier
        case .bool, .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64, .float, .double, .decimal,
            .bytes, .array, .timestamp, .table:
            throw RPCFailure(code: .undecodableRequest, message: "the header \"\(ActorHeader.target)\" is not a string")
        }
        let name = method.isEmpty ? nil : method
        var decision = exports.withLock { $0.decide(for: actor, name: name, target: target) }
        // At most twice: with the identifier in the request, and with this version's identifier for the name.
        for isLast in [false, true] {
            guard case .run(let identifier, let substitutions) = decision else { break }
            switch try await execute(identifier, substitutions, on: actor, body, context) {
            case .value(let body)?:
                guard isCurrent(address, incarnation) else {
                    throw RPCFailure(code: .actorEnded, message: "\(address) ended while its method ran")
                }
                return RPCReply(body: body)
            case .unencodable(let text)?: throw RPCFailure(code: .unencodableResult, message: text)
            case .thrown(let error)?:
                if error is any CrashingError { local.crash(address, incarnation: incarnation, error) }
                throw failure(error)
            case nil:
                if isLast { break }
                decision = exports.withLock { $0.decideInstead(of: identifier, for: actor, name: name) }
            }
        }
        let what = name ?? target.map { String($0.prefix(200)) } ?? "the request"
        throw RPCFailure(code: .unknownProcedure, message: "\"\(address.name)\" answers no \(what)")
    }

    private func isCurrent(_ address: ActorAddress, _ incarnation: UInt64) -> Bool {
        // An actor that is no longer retained has answered nevertheless.
        address.route.isOneNode || local.isCurrent(address, incarnation: incarnation)
    }

    /// Calls a method; `nil`: there is none with this identifier.
    private func execute(
        _ identifier: String,
        _ substitutions: [any Any.Type],
        on actor: any DistributedActor,
        _ body: ByteBuffer,
        _ context: RPCContext
    ) async throws -> RPCResultHandler.Outcome? {
        let coders = currentCoders
        let handler = RPCResultHandler(coders.encoder)
        var call = RemoteCall()
        call.context = context
        do {
            try await RemoteCall.$current.withValue(call) {
                var invocation = RPCInvocationDecoder(body, substitutions: substitutions, coders.decoder)
                try await execute(on: actor, identifier, &invocation, handler)
            }
        } catch let error as ExecuteDistributedTargetError {
            return try missing(error)
        } catch let error as RPCInvocationDecoder.Undecodable {
            throw RPCFailure(code: .undecodableRequest, message: error.description)
        }
        switch handler.outcome {
        // The runtime's own errors are reported as if the method had thrown them.
        case .thrown(let error as ExecuteDistributedTargetError): return try missing(error)
        case .thrown(let error as RPCInvocationDecoder.Undecodable):
            throw RPCFailure(code: .undecodableRequest, message: error.description)
        case nil: throw RPCFailure(code: .internalError, message: "the method did not end")
        case let outcome?: return outcome
        }
    }

    private func execute(
        on actor: any DistributedActor,
        _ identifier: String,
        _ invocation: inout RPCInvocationDecoder,
        _ handler: RPCResultHandler
    ) async throws {
        try await executeDistributedTarget(
            on: actor,
            target: RemoteCallTarget(identifier),
            invocationDecoder: &invocation,
            handler: handler
        )
    }

    /// Whether the error means that there is no such method; returns `nil` then.
    private func missing(_ error: ExecuteDistributedTargetError) throws -> RPCResultHandler.Outcome? {
        switch error.errorCode {
        case .targetAccessorNotFound, .invalidParameterCount, .invalidGenericSubstitutions, .typeDeserializationFailure,
            .missingGenericSubstitutions:
            return nil
        default: throw RPCFailure(code: .undecodableRequest, message: "\(error.errorCode)")
        }
    }

    /// The error for the caller: an exported error, or one meant for callers, unchanged; any other error without its contents, as in RPC.
    func failure(_ error: any Error) -> any Error {
        if error is RPCFailure { return error }
        let type = _typeName(Swift.type(of: error), qualified: true)
        guard errors[type] != nil, let encodable = error as? any (Codable & Error),
            let data = try? currentCoders.encoder.encode(bounded: encodable),
            let value = try? JSON.decode(JSONValue.self, from: ByteBuffer(data: data))
        else { return error }
        return RPCFailure(
            code: .thrown,
            message: type,
            details: .object(["type": .string(type), "value": value])
        )
    }

    // MARK: Node

    /// Whether the broker would report this node's end.
    private var isAlive: Bool {
        living.withLock { $0 }.map { $0.channel.closedError == nil && $0.name == node } ?? false
    }

    private func lives(_ node: LivingNode?) {
        living.withLock { $0 = node }
        // Not awaited: the node's life is watched in the meantime, and if it ends there is nothing to announce.
        if node != nil { Task.detached { [self] in await sayHello() } }
    }

    private func nodeEnded(_ old: String) {
        living.withLock { $0 = nil }
        // Their addresses end with the name. No notification is needed, because the node's end implies theirs.
        _ = local.removeAll(at: old)
    }

    private func asked(serviceHash: String) {
        guard isHosting, serviceHash == StableHash.hex(service) else { return }
        // Not awaited: the asker gets the announcement, or asks again.
        Task.detached { [self] in await sayHello() }
    }

    /// Announces this node and what it holds, if it is alive. It is repeated until the broker has confirmed it, because otherwise nobody
    /// would know this node.
    func sayHello() async {
        if await helloIsSaid() { return }
        guard beginsSayingHelloAgain() else { return }
        // Not awaited: there is only one, and it ends when the announcement is confirmed or the node is no longer alive.
        Task.detached { [self] in
            repeat {
                try? await Task.sleep(for: .milliseconds(200))
                // Reset before the attempt, so that a later failure starts its own repetition.
                isSayingHelloAgain.withLock { $0 = false }
                if await helloIsSaid() { return }
            } while beginsSayingHelloAgain()
        }
    }

    private func beginsSayingHelloAgain() -> Bool {
        isSayingHelloAgain.withLock { isSaying in
            defer { isSaying = true }
            return !isSaying
        }
    }

    /// Also true when there is nothing to announce.
    private func helloIsSaid() async -> Bool {
        guard let living = living.withLock({ $0 }), living.channel.closedError == nil else { return true }
        let hello = kinds.withLock { held in
            held.lastHello += 1
            return Membership.Hello(node: living.name, kinds: held.kinds.sorted(), number: held.lastHello)
        }
        // Not on any other channel: an announcement that outlives the node would revive its name for nodes that missed its end.
        return await events.say(hello, NodeEvent.hello(living.name), on: living.channel)
    }

    /// This node begins or ends to hold virtual actors of a kind.
    func holds(_ kind: String, _ holds: Bool) async {
        kinds.withLock { held in
            if holds { held.kinds.insert(kind) } else { held.kinds.remove(kind) }
        }
        await sayHello()
    }

    func announceEnd(of address: ActorAddress, _ reason: ExitReason) {
        guard isHosting, living.withLock({ $0 }) != nil else { return }
        let (kind, text): (String, String?) =
            switch reason {
            case .normal, .shutdown: ("normal", nil)
            case .killed, .noProcess: ("crashed", "\(reason)")
            case .crashed(let error): ("crashed", "\(error)")
            }
        let node = node
        let ofNode = ActorAddress.node(node, address.name)
        let obituary = NodeEvent.Obituary(node: node, actor: ofNode.description, kind: kind, text: text)
        // Not awaited: a missed end is found by asking.
        Task.detached { [events] in await events.say(obituary, NodeEvent.ended(ofNode)) }
    }
}

/// The kinds of virtual actors that a node holds, and the number of its announcements.
private struct HeldKinds {
    var kinds: Set<String> = []
    var lastHello: Int64 = 0
}

/// The headers of a request for an actor, in addition to those of RPC.
enum ActorHeader {
    /// The actor's name at the destination.
    static let actor = "actor"
    /// The method's identifier in the Swift runtime. Clients in other languages omit it.
    static let target = "target"
    /// Instead of a method: asks whether the actor exists.
    static let ask = "ask"
}

/// A reference to the system, for objects that are created before it.
final class WeakSystem: Sendable {
    private struct Reference {
        weak var system: RPCActorSystem?
    }

    private let reference = Mutex(Reference())

    var system: RPCActorSystem? { reference.withLock { $0.system } }

    func set(_ system: RPCActorSystem) { reference.withLock { $0.system = system } }
}

/// Records a method's identifier instead of calling it.
final class MethodRecorder: Sendable {
    private let recorded = Mutex<String?>(nil)

    var target: RemoteCallTarget? { recorded.withLock { $0 }.map { RemoteCallTarget($0) } }

    func record(_ target: RemoteCallTarget) {
        let identifier = target.identifier
        recorded.withLock { $0 = identifier }
    }
}

/// The address for the next actor of a type: that of the supervised child or activation that is being created.
final class Hosting: Sendable {
    @TaskLocal
    static var current: Hosting?

    private let type: ObjectIdentifier
    private let address: Mutex<ActorAddress?>

    init(_ address: ActorAddress, for type: any DistributedActor.Type) {
        self.type = ObjectIdentifier(type)
        self.address = Mutex(address)
    }

    func take(for type: any DistributedActor.Type) -> ActorAddress? {
        guard ObjectIdentifier(type) == self.type else { return nil }
        return address.withLock { address in
            defer { address = nil }
            return address
        }
    }
}

/// Records method names before any request is answered, and cleans up at the end.
actor SystemSetup {
    /// Retained for as long as the tree runs.
    private let system: RPCActorSystem

    init(_ system: RPCActorSystem, _ context: ChildContext) async {
        self.system = system
        await system.findNames()
        system.began(context.supervisor)
        context.supervisor.pid.onExit { [weak system] _ in system?.ended() }
    }
}

/// Runs requests of shards, which are found by a number in a header whose name only this process knows.
final class ShardJobs: Sendable {
    typealias Job = @Sendable (ByteBuffer, RPCContext) async throws -> RPCReply

    private struct State {
        var last: Int64 = 0
        var jobs: [Int64: Job] = [:]
    }

    /// A random header name that no peer can know.
    private let header =
        "job.\(String(UInt64.random(in: .min ... .max), radix: 36))\(String(UInt64.random(in: .min ... .max), radix: 36))"
    private let state = Mutex(State())

    /// Marks a delivery, so that this job runs its request.
    func mark(_ delivery: inout Delivery, _ job: @escaping Job) -> Int64 {
        let id = state.withLock { state in
            state.last &+= 1
            state.jobs[state.last] = job
            return state.last
        }
        delivery.properties.headers[header] = .int64(id)
        return id
    }

    func take(_ headers: FieldTable) -> Job? {
        guard case .int64(let id)? = headers[header] else { return nil }
        return state.withLock { $0.jobs.removeValue(forKey: id) }
    }

    func remove(_ id: Int64) {
        state.withLock { _ = $0.jobs.removeValue(forKey: id) }
    }
}
