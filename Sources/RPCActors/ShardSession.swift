import AMQPPool
import ConcurrencyPrimitives
import Distributed
import Foundation
import Logging
import NIOCore
import RPCReceiver
import RPCWire
import Supervision
import Synchronization

/// The shards of one kind on this node while one channel is open: performs the decisions of ``ShardTable``.
///
/// The end of the channel ends everything at once: handlers are cancelled, and activations answer nothing any more.
final class ShardSession: Sendable {
    private enum LogKind: Int, CaseIterable { case crashed }

    private struct Request {
        let delivery: Delivery
        let shard: Int
        var isStarted = false
        var hasEnded = false
        var isSettled = false

        /// Whether it has been answered and nothing of it is running.
        var isOver: Bool { isSettled && (!isStarted || hasEnded) }
    }

    private struct Activation {
        let actor: any DistributedActor
        let address: ActorAddress
        let shard: Int
        let number: Int64
        var lastUsed: ContinuousClock.Instant
    }

    private struct State {
        var table: ShardTable
        var requests: [UInt64: Request] = [:]
        var activations: [ActorAddress: Activation] = [:]
        var suspects: [Int: Suspects] = [:]
        var isLost = false
    }

    private let system: RPCActorSystem
    /// The node's name when the session began, which is in the tokens.
    private let node: String
    private let name: ShardName
    private let channel: AMQPChannel
    private let sink: RequestSink
    private let make: @Sendable (VirtualActivation) async throws -> any DistributedActor
    private let type: any DistributedActor.Type
    private let logger: Logger
    /// Callers decide how often an actor crashes, so the log is bounded.
    private let log = BoundedLog(LogKind.self)
    private let turns = Turns<UInt64>()
    private let state: Mutex<State>
    private let hasWarned = OnceFlag()
    /// Fires when everything that was consumed is returned, after stopping has begun.
    let released = OneShot<Void>()

    init(
        _ system: RPCActorSystem,
        _ name: ShardName,
        on channel: AMQPChannel,
        sink: RequestSink,
        settings: ShardTable.Settings,
        type: any DistributedActor.Type,
        logger: Logger,
        make: @escaping @Sendable (VirtualActivation) async throws -> any DistributedActor
    ) {
        self.system = system
        self.name = name
        self.channel = channel
        self.sink = sink
        sink.channelOpened(channel)
        self.type = type
        self.logger = logger
        self.make = make
        node = system.node
        state = Mutex(State(table: ShardTable(node: node, count: name.count, settings: settings)))
    }

    // MARK: Inspection

    var activeShards: Int { state.withLock { $0.table.activeCount } }
    var activations: Int { state.withLock { $0.activations.count } }

    // MARK: Consuming

    /// Consumes a shard's queue.
    func consume(_ shard: Int) async throws(AMQPError) {
        state.withLock { $0.table.consumes(shard) }
        let tag = try await channel.consume(
            queue: name.queue(shard),
            onDelivery: { [weak self] delivery in self?.received(delivery, shard) },
            onCancel: { [weak self] in
                // Deleted, or its node failed. Everything starts again, as after the loss of the channel.
                guard let self else { return }
                perform(state.withLock { $0.table.lost(shard) })
                channel.beginClose()
            }
        )
        perform(state.withLock { $0.table.consumed(shard, consumer: tag, at: .now) })
    }

    private func received(_ delivery: Delivery, _ shard: Int) {
        let tag = delivery.deliveryTag
        guard delivery.properties.type != ShardToken.messageType else {
            guard let token = try? JSON.decode(ShardToken.self, from: delivery.body) else {
                return channel.acknowledge(tag)
            }
            let actions = state.withLock { state in
                if token.node != node { state.suspects[shard, default: Suspects()].inherit(token.suspects) }
                return state.table.token(token, tag, shard: shard, clock: Self.clock, at: .now)
            }
            return perform(actions)
        }
        let actor: String =
            if case .string(let name)? = delivery.properties.headers[ActorHeader.actor] { name } else { "" }
        let actions = state.withLock { state -> [ShardTable.Action] in
            guard !state.isLost else { return [] }
            state.requests[tag] = Request(delivery: delivery, shard: shard)
            // Taken here, where the order is still that of the queue.
            turns.take(tag, for: actor)
            return state.table.request(tag, shard: shard, at: .now)
        }
        perform(actions)
    }

    /// Milliseconds since 1970.
    private static var clock: Int64 { Int64(clamping: Int(Date().timeIntervalSince1970 * 1000)) }

    // MARK: Placement and time

    func place(_ membership: Membership) {
        warnOfOthers(membership)
        let nodes = membership.nodes(holding: name.heldKind).union([system.node])
        let owned = (0..<name.count).filter { Placement.owner(of: name.queue($0), among: nodes) == system.node }
        perform(state.withLock { $0.table.place(owned: Set(owned), at: .now) })
    }

    /// With two numbers of shards a key may be active twice.
    private func warnOfOthers(_ membership: Membership) {
        let others = membership.otherCounts(of: name)
        guard !others.isEmpty, !hasWarned.isSet else { return }
        hasWarned.set()
        logger.error(
            "nodes of this service hold these virtual actors with another number of shards: a key may be active on both",
            metadata: ["kind": "\(name.kind)", "shards": "\(name.count)", "others": "\(others.sorted())"]
        )
    }

    func tick(idle: Duration) {
        perform(state.withLock { $0.table.tick(clock: Self.clock, at: .now) })
        let limit = ContinuousClock.now - idle
        let passive = state.withLock { state in
            let passive = state.activations.filter { $0.value.lastUsed < limit && !turns.isBusy($0.key.name) }
            for address in passive.keys { state.activations[address] = nil }
            return passive.values
        }
        for activation in passive { system.local.remove(activation.address) }
    }

    /// Returns everything to the broker.
    func stop() {
        perform(state.withLock { $0.table.stop(at: .now) })
        fireIfReleased()
    }

    /// The channel has ended.
    func lost() {
        let (actions, requests) = state.withLock { state in
            state.isLost = true
            defer { state.requests = [:] }
            return (state.table.lostAll(), Array(state.requests.keys))
        }
        sink.channelClosed(channel)
        perform(actions)
        for tag in requests { turns.end(tag) }
        released.set(())
    }

    private func fireIfReleased() {
        if state.withLock({ $0.table.isReleased }) { released.set(()) }
    }

    // MARK: Actions

    private func perform(_ actions: [ShardTable.Action]) {
        for action in actions {
            switch action {
            case .publish(let token, let shard): publish(token, shard)
            case .acknowledge(let tag): channel.acknowledge(tag)
            case .run(let tag, let shard, let number): run(tag, shard, number)
            case .endActivations(let shard): endActivations(shard)
            case .abandon: channel.beginClose()
            case .release(let shard, let consumer):
                // Not awaited: the session may end without it, and its operations have timeouts.
                Task.detached { [self] in await release(shard, consumer) }
            }
        }
    }

    private func publish(_ token: ShardToken, _ shard: Int) {
        // Not awaited: the result goes to the table, and without it in time the shard is not held.
        Task.detached { [self] in
            do {
                try await send(token, shard)
                perform(state.withLock { $0.table.confirmed(token, shard: shard) })
            } catch {
                guard channel.closedError == nil else { return }
                // A token that is merely renewed is still held, and renewed later.
                if state.withLock({ $0.table.number(of: shard) }) == token.number { return }
                logger.warning(
                    "a shard's token is not published",
                    metadata: ["shard": "\(name.queue(shard))", "error": "\(error)"]
                )
                // If the claim is uncertain the shard is given up, and with it everything on this channel.
                await channel.close()
            }
        }
    }

    private func send(_ token: ShardToken, _ shard: Int) async throws {
        var token = token
        token.suspects = state.withLock { $0.suspects[shard]?.tokenValue }
        try await channel.publish(
            try JSON.encode(token),
            // Before all requests, if the queue has priorities.
            properties: MessageProperties(
                contentType: JSON.contentType,
                deliveryMode: .persistent,
                priority: 1,
                type: ShardToken.messageType
            ),
            routingKey: name.queue(shard),
            mandatory: true
        )
    }

    private func release(_ shard: Int, _ consumer: String) async {
        do throws(AMQPError) {
            try await channel.cancel(consumer)
            let (tags, isStopping) = state.withLock { state in
                let tags = state.table.released(shard, at: .now)
                for tag in tags { state.requests[tag] = nil }
                return (tags, state.table.isStopping)
            }
            for tag in tags {
                channel.reject(tag, requeue: true)
                turns.end(tag)
            }
            if isStopping { return fireIfReleased() }
            try await consume(shard)
        } catch {
            logger.debug(
                "a shard is not handed over",
                metadata: ["shard": "\(name.queue(shard))", "error": "\(error)"]
            )
            await channel.close()
        }
    }

    private func endActivations(_ shard: Int) {
        let ended = state.withLock { state in
            let ended = state.activations.filter { $0.value.shard == shard }
            for address in ended.keys { state.activations[address] = nil }
            return ended.values
        }
        for activation in ended { system.local.remove(activation.address) }
    }

    // MARK: One request

    private func run(_ tag: UInt64, _ shard: Int, _ number: Int64) {
        guard let delivery = state.withLock({ $0.requests[tag]?.delivery }) else { return }
        guard delivery.redelivered, let id = delivery.properties.messageID else {
            return start(delivery, shard, number)
        }
        let (mayRun, holds) = state.withLock { state in
            (state.suspects[shard, default: Suspects()].begin(id), state.table.number(of: shard) == number)
        }
        guard mayRun else { return start(delivery, shard, number, isPoison: true) }
        guard holds else { return start(delivery, shard, number) }
        // Recorded for the next host, before this one may be ended by the request. Not awaited: publishing has a timeout.
        Task.detached { [self] in
            do {
                try await send(ShardToken(number: number, node: node), shard)
                start(delivery, shard, number)
            } catch {
                logger.debug("a redelivered request is not started", metadata: ["error": "\(error)"])
                await channel.close()
            }
        }
    }

    private func start(_ delivery: Delivery, _ shard: Int, _ number: Int64, isPoison: Bool = false) {
        var delivery = delivery
        let tag = delivery.deliveryTag
        let job = system.jobs.mark(&delivery) { [weak self] body, context in
            guard let self, begin(tag) else { throw CancellationError() }
            defer { over(tag) { $0.hasEnded = true } }
            // The task is cancelled at the deadline.
            guard await turns.wait(tag) else { throw CancellationError() }
            guard !isPoison else {
                throw RPCFailure(
                    code: .poison,
                    message: "its host was lost each of the \(Suspects.limit + 1) times that it was started"
                )
            }
            return try await work(body, context, shard, number)
        }
        sink.accept(delivery, on: channel) { [weak self] in
            self?.system.jobs.remove(job)
            self?.over(tag) { $0.isSettled = true }
        }
    }

    private func begin(_ tag: UInt64) -> Bool {
        state.withLock { state in
            guard state.requests[tag] != nil else { return false }
            state.requests[tag]?.isStarted = true
            return true
        }
    }

    private func over(_ tag: UInt64, _ change: (inout Request) -> Void) {
        let (isTurnOver, actions) = state.withLock { state -> (Bool, [ShardTable.Action]) in
            guard var request = state.requests[tag] else { return (true, []) }
            change(&request)
            state.requests[tag] = request
            guard request.isOver else { return (request.hasEnded, []) }
            state.requests[tag] = nil
            if let id = request.delivery.properties.messageID { state.suspects[request.shard]?.end(id) }
            return (true, state.table.ended(tag, shard: request.shard, at: .now))
        }
        if isTurnOver { turns.end(tag) }
        perform(actions)
    }

    private func work(
        _ body: ByteBuffer,
        _ context: RPCContext,
        _ shard: Int,
        _ number: Int64
    ) async throws -> RPCReply {
        guard case .string(let text)? = context.headers[ActorHeader.actor], text.utf8.starts(with: "\(name.kind)/".utf8)
        else {
            throw RPCFailure(code: .noProcess, message: "no virtual actor of the kind \"\(name.kind)\"")
        }
        let address = ActorAddress(destination: name.queue(shard), name: text)
        guard address.isValid, name.address(of: address.key) == address else {
            throw RPCFailure(code: .noProcess, message: "\"\(text)\" is not in the shard \(name.queue(shard))")
        }
        let (actor, incarnation) = try await activation(address, shard, number)
        defer { used(address) }
        return try await system.run(actor, address, incarnation, body, context)
    }

    private func activation(
        _ address: ActorAddress,
        _ shard: Int,
        _ number: Int64
    ) async throws -> (any DistributedActor, UInt64) {
        let known = state.withLock { $0.activations[address] }
        if let known, known.number == number { return (known.actor, known.address.incarnation) }
        let activation = VirtualActivation(key: address.key, kind: name.kind, number: number)
        let actor: any DistributedActor
        do {
            actor = try await Hosting.$current.withValue(Hosting(address, for: type)) { try await make(activation) }
        } catch {
            throw system.failure(error)
        }
        guard let identity = actor.id as? ActorAddress, identity == address else {
            throw RPCFailure(
                code: .internalError,
                message: "the activation does not have the declared type"
            )
        }
        let isHere = state.withLock { state in
            // The shard may have been lost in the meantime.
            guard !state.isLost, state.table.holds(shard, number: number) else { return false }
            state.activations[address] = Activation(
                actor: actor,
                address: identity,
                shard: shard,
                number: number,
                lastUsed: .now
            )
            return true
        }
        guard isHere else {
            system.local.remove(identity)
            throw RPCFailure(code: .actorEnded, message: "\(address) ended before its method ran")
        }
        // It has no process: its crash ends this activation, and the next call creates another one.
        system.local.onCrash(identity) { [weak self] error in
            self?.crashed(identity, error)
        }
        return (actor, identity.incarnation)
    }

    private func crashed(_ identity: ActorAddress, _ error: any Error) {
        state.withLock { state in
            guard state.activations[identity]?.address.incarnation == identity.incarnation else { return }
            state.activations[identity] = nil
        }
        system.local.remove(identity)
        log(.crashed, .error, to: logger, "a virtual actor crashed", ["actor": "\(identity)", "error": "\(error)"])
    }

    private func used(_ address: ActorAddress) {
        state.withLock { $0.activations[address]?.lastUsed = .now }
    }
}
