import AMQPPool
import ConcurrencyPrimitives
import Foundation
import Logging
import NIOCore
import RPCWire
import Supervision

/// The events about nodes and actors through the broker: which exist, and which have ended.
///
/// They go through one topic exchange, `rpc.obituaries`; names are hashed into single words, because a routing key is limited to 255 bytes
/// and its words have a meaning:
///
/// | routing key | meaning | sender |
/// |---|---|---|
/// | `node.<service>.<node>` | the node has ended | the broker (the node's last will), or the node itself when it stops |
/// | `hello.<service>.<node>` | the node exists, and what it holds | the node, when it is ready and when asked |
/// | `who.<service>` | asks all nodes to announce themselves | anyone who needs to know |
/// | `actor.<address>` | the actor has ended | its node |
enum NodeEvent {
    static let exchange = "rpc.obituaries"

    static func ended(_ node: String) -> String { "node.\(StableHash.hex(service(of: node))).\(StableHash.hex(node))" }
    static func hello(_ node: String) -> String { "hello.\(StableHash.hex(service(of: node))).\(StableHash.hex(node))" }
    static func who(_ service: String) -> String { "who.\(StableHash.hex(service))" }
    static func ended(_ actor: ActorAddress) -> String { "actor.\(StableHash.hex(actor.description))" }

    static func bindings(of service: String) -> [String] {
        let hash = StableHash.hex(service)
        return ["node.\(hash).*", "hello.\(hash).*"]
    }

    /// The service of a node.
    static func service(of node: String) -> String { String(node.unicodeScalars.prefix { $0 != "@" }) }

    /// The end of a node, or of an actor.
    struct Obituary: Codable, Sendable, Equatable {
        var node: String
        /// `nil`: the node itself.
        var actor: String?
        /// `normal`, `crashed`, `no_connection`.
        var kind: String
        var text: String?

        var exit: RemoteExit {
            switch kind {
            case "normal": .normal
            case "no_connection": .noConnection
            default: .crashed(text ?? kind)
            }
        }
    }
}

/// Receives events, for all interested parts of this process.
final class NodeEvents: Sendable {
    private struct Service {
        var membership = Membership()
        let changes = StateBroadcast<Membership>(Membership())
    }

    private struct Watch {
        let actor: ActorAddress
        let ended: @Sendable (RemoteExit) -> Void
    }

    private struct State {
        var channel: AMQPChannel?
        var services: [String: Service] = [:]
        var watches: [UInt64: Watch] = [:]
        var lastWatch: UInt64 = 0
        /// The number of watchers of each actor: its binding is removed with the last.
        var watched: [ActorAddress: Int] = [:]
    }

    private let pool: AMQPPool
    private let hosted: String?
    private let logger: Logger
    private let state = Monitor(State())
    private let asked: @Sendable (String) -> Void
    private let recheck: @Sendable (ActorAddress) async -> Bool?

    /// - Parameters:
    ///   - hosted: The service that this process is a node of.
    ///   - asked: Called when somebody asks which nodes the service has.
    ///   - recheck: Whether an actor exists; `nil`: unknown at present.
    init(
        _ pool: AMQPPool,
        hosted: String?,
        logger: Logger,
        asked: @escaping @Sendable (String) -> Void,
        recheck: @escaping @Sendable (ActorAddress) async -> Bool?
    ) {
        self.pool = pool
        self.hosted = hosted
        self.logger = logger
        self.asked = asked
        self.recheck = recheck
    }

    // MARK: Members

    /// The current membership of a service, and each change.
    func memberships(of service: String) -> AsyncStream<Membership> {
        let (stream, isNew) = state.change { state -> (AsyncStream<Membership>, Bool) in
            if let known = state.services[service] { return (known.changes.stream, false) }
            let new = Service()
            state.services[service] = new
            return (new.changes.stream, true)
        }
        if isNew { follow(service) }
        return stream
    }

    func membership(of service: String) -> Membership? {
        state.change { $0.services[service]?.membership }
    }

    private func follow(_ service: String) {
        guard let channel = state.change({ $0.channel }) else { return }
        // Not awaited: it ends with the channel, and each of its operations within the operation timeout.
        Task.detached { [self] in await follow(service, on: channel) }
    }

    private func follow(_ service: String, on channel: AMQPChannel) async {
        do throws(AMQPError) {
            for key in NodeEvent.bindings(of: service) {
                try await channel.bindQueue(name, to: NodeEvent.exchange, routingKey: key)
            }
            try await channel.publish(ByteBuffer(), exchange: NodeEvent.exchange, routingKey: NodeEvent.who(service))
        } catch {
            logger.debug(
                "a service's nodes cannot be determined",
                metadata: ["service": "\(service)", "error": "\(error)"]
            )
            await channel.close()
        }
    }

    private func change(_ service: String, _ body: (inout Membership) -> Bool) {
        state.change { state in
            guard var known = state.services[service] else { return }
            let isChanged = body(&known.membership)
            state.services[service] = known
            if isChanged { known.changes.update { known.membership } }
        }
    }

    // MARK: Watching an actor

    /// Waits for the end of an actor of a node.
    ///
    /// The binding comes first and the check after it, so that one of them sees an end in between.
    func exited(_ actor: ActorAddress) async throws -> RemoteExit {
        let result = OneShot<RemoteExit>()
        let id = state.change { state in
            state.lastWatch += 1
            state.watches[state.lastWatch] = Watch(actor: actor) { result.set($0) }
            state.watched[actor, default: 0] += 1
            return state.lastWatch
        }
        _ = memberships(of: NodeEvent.service(of: actor.destination))
        defer { unwatch(id, actor) }
        var channel = try await channel()
        while result.current == nil {
            do throws(AMQPError) {
                for key in Self.bindings(of: actor) {
                    try await channel.bindQueue(name, to: NodeEvent.exchange, routingKey: key)
                }
                break
            } catch {
                try Task.checkCancellation()
                channel = try await self.channel(otherThan: channel)
            }
        }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask { [self] in
                if await isGone(actor, while: { result.current == nil }) { result.set(.noProcess) }
            }
            guard let exit = await result.wait() else { throw CancellationError() }
            return exit
        }
    }

    /// Checks an actor until it is known whether it exists: a lost connection or a missing answer says nothing. `false` also when nobody
    /// wants to know any more.
    private func isGone(_ actor: ActorAddress, while isWanted: () -> Bool) async -> Bool {
        while isWanted(), !Task.isCancelled {
            if let isThere = await recheck(actor) { return !isThere }
            try? await Task.sleep(for: Self.pauseBetweenQuestions)
        }
        return false
    }

    private static let pauseBetweenQuestions = Duration.milliseconds(200)
    /// The maximum number of concurrent checks.
    private static let maximumQuestions = 16

    private func unwatch(_ id: UInt64, _ actor: ActorAddress) {
        let channel = state.change { state -> AMQPChannel? in
            state.watches[id] = nil
            let rest = state.watched[actor, default: 1] - 1
            state.watched[actor] = rest > 0 ? rest : nil
            return rest > 0 ? nil : state.channel
        }
        guard let channel else { return }
        // Not awaited: a single operation, which has a timeout.
        Task.detached { [self] in
            // If it fails the channel has ended, and the queue with it.
            try? await channel.unbindQueue(name, from: NodeEvent.exchange, routingKey: NodeEvent.ended(actor))
        }
    }

    private func channel(otherThan ended: AMQPChannel? = nil) async throws -> AMQPChannel {
        do throws(WaitFailure) {
            return try await state.wait { $0.channel === ended ? nil : $0.channel }
        } catch {
            throw CancellationError()
        }
    }

    // MARK: The channel

    private static func bindings(of actor: ActorAddress) -> [String] {
        [NodeEvent.ended(actor), NodeEvent.ended(actor.destination)]
    }

    /// Each process has its own queue, which is deleted with its consumer.
    private let name = "obituaries.\(String(UInt64.random(in: .min ... .max), radix: 36))"

    /// Follows on this channel until it is closed.
    ///
    /// - Parameter followed: Called when everything is bound.
    func follow(on channel: AMQPChannel, _ followed: @Sendable () -> Void) async throws {
        try await channel.selectConfirms()
        try await channel.declareExchange(NodeEvent.exchange, type: .topic, durable: true)
        try await channel.declareQueue(name, durable: false, exclusive: true, autoDelete: true)
        if let hosted {
            try await channel.bindQueue(name, to: NodeEvent.exchange, routingKey: NodeEvent.who(hosted))
        }
        _ = try await channel.consume(queue: name, noAck: true) { [weak self] delivery in
            self?.received(delivery)
        } onCancel: {
            channel.beginClose()
        }
        let watches = state.change { $0.watches }
        for (_, watch) in watches {
            for key in Self.bindings(of: watch.actor) {
                try await channel.bindQueue(name, to: NodeEvent.exchange, routingKey: key)
            }
        }
        // Services requested from now on are bound on this channel by the requester.
        let services = state.change { state in
            for service in state.services.keys { state.services[service]?.membership.reconnected() }
            state.channel = channel
            return Array(state.services.keys)
        }
        followed()
        defer { state.change { if $0.channel === channel { $0.channel = nil } } }
        // Questions about the nodes that were asked while there was no channel were not received.
        if let hosted { asked(StableHash.hex(hosted)) }
        for service in services { await follow(service, on: channel) }
        await withTaskGroup(of: Void.self) { group in
            group.addTask { [self] in await look(again: watches) }
            group.addTask { [self] in
                // Long enough for a busy node to answer, and for its channel to be reopened like this one.
                try? await Task.sleep(for: Self.timeToAnswer)
                guard !Task.isCancelled else { return }
                for service in services { settle(service) }
            }
            _ = await channel.waitUntilClosed()
            group.cancelAll()
        }
        try Task.checkCancellation()
        if let error = channel.closedError { throw error }
    }

    private static let timeToAnswer = Duration.seconds(5)

    /// Ends may have been missed: checks the watched actors.
    private func look(again watches: [UInt64: Watch]) async {
        await withTaskGroup(of: Void.self) { group in
            for (index, (id, watch)) in watches.enumerated() {
                if index >= Self.maximumQuestions { await group.next() }
                group.addTask { [self] in
                    if await isGone(watch.actor, while: { isWatched(id) }) { watch.ended(.noConnection) }
                }
            }
        }
    }

    private func isWatched(_ id: UInt64) -> Bool { state.change { $0.watches[id] != nil } }

    private func settle(_ service: String) {
        var silent: Set<String> = []
        change(service) { membership in
            silent = membership.settle()
            return !silent.isEmpty
        }
        for node in silent { nodeEnded(node, .noConnection) }
    }

    /// Handles a message from the exchange, which is untrusted.
    func received(_ delivery: Delivery) {
        let parts = delivery.routingKey.split(separator: ".")
        switch parts.first {
        case "hello":
            guard let hello = try? JSON.decode(Membership.Hello.self, from: delivery.body),
                NodeEvent.hello(hello.node) == delivery.routingKey
            else { return }
            change(NodeEvent.service(of: hello.node)) { $0.hello(hello) }
        case "node":
            guard let obituary = try? JSON.decode(NodeEvent.Obituary.self, from: delivery.body), obituary.actor == nil,
                NodeEvent.ended(obituary.node) == delivery.routingKey
            else { return }
            // A message published by the broker was written while the node lived: its arrival by this path means that the node was lost.
            let exit: RemoteExit = delivery.properties.headers["x-death"] == nil ? obituary.exit : .noConnection
            change(NodeEvent.service(of: obituary.node)) { $0.ended(obituary.node) }
            nodeEnded(obituary.node, exit)
        case "actor":
            guard let obituary = try? JSON.decode(NodeEvent.Obituary.self, from: delivery.body),
                let actor = obituary.actor.flatMap(ActorAddress.init)
            else { return }
            let watches = state.change { $0.watches.values.filter { $0.actor == actor } }
            for watch in watches { watch.ended(obituary.exit) }
        case "who": asked(String(parts.last ?? ""))
        default: return
        }
    }

    private func nodeEnded(_ node: String, _ exit: RemoteExit) {
        let watches = state.change { $0.watches.values.filter { $0.actor.destination == node } }
        for watch in watches { watch.ended(exit) }
    }

    // MARK: Publishing events

    /// Publishes on this channel, or any of the pool; a message that cannot be sent now is not sent later. Returns whether the broker has
    /// confirmed it.
    @discardableResult
    func say(
        _ message: some Encodable,
        _ routingKey: String,
        on channel: AMQPChannel? = nil,
        timeout: Duration = .seconds(5)
    ) async -> Bool {
        do {
            let body = try JSON.encode(message)
            let properties = MessageProperties(contentType: JSON.contentType)
            if let channel {
                try await channel.publish(
                    body,
                    properties: properties,
                    exchange: NodeEvent.exchange,
                    routingKey: routingKey,
                    timeout: timeout
                )
            } else {
                try await pool.publish(
                    body,
                    properties: properties,
                    exchange: NodeEvent.exchange,
                    routingKey: routingKey,
                    timeout: timeout
                )
            }
            return true
        } catch {
            logger.debug("an event could not be published", metadata: ["key": "\(routingKey)", "error": "\(error)"])
            return false
        }
    }
}
