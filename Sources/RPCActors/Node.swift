import AMQPPool
import ConcurrencyPrimitives
import Foundation
import Logging
import NIOCore
import RPCWire
import Supervision
import Synchronization

/// The name of this process among all nodes, for as long as the broker considers it alive.
///
/// A node whose connection or life channel was lost is dead for everybody who watches it. It therefore continues under another name, and
/// addresses under the old name no longer exist.
final class NodeName: Sendable {
    private let service: String
    private let name: Mutex<String>
    private let isUsed = Mutex(false)

    init(service: String) {
        self.service = service
        name = Mutex(Self.make(service))
    }

    var current: String { name.withLock { $0 } }

    /// Assigns a new name, if the current one was ever in use. Returns the old one then.
    func renew() -> String? {
        guard isUsed.withLock({ $0 }) else { return nil }
        isUsed.withLock { $0 = false }
        return name.withLock { name in
            defer { name = Self.make(service) }
            return name
        }
    }

    /// The name may be known to others from now on.
    func use() { isUsed.withLock { $0 = true } }

    private static func make(_ service: String) -> String {
        let digits = String(UInt64.random(in: .min ... .max), radix: 36)
        return "\(service)@\(digits)"
    }
}

/// The process of a node's name: the first child, so that everything else of the node is restarted with the next name.
actor NodeIdentity {
    init(_ name: NodeName, context: ChildContext, ended: @escaping @Sendable (String) -> Void) {
        // The first incarnation uses the name assigned before the tree started.
        if let old = name.renew() {
            ended(old)
            context.logger.notice(
                "this node continues under another name",
                metadata: ["before": "\(old)", "node": "\(name.current)"]
            )
        }
    }
}

/// A node that the broker considers alive, and the channel of its last will.
struct LivingNode: Sendable {
    let name: String
    let channel: AMQPChannel
}

/// The node's last will: a message that the broker publishes as the node's obituary when it loses the connection.
///
/// The message is in a separate queue with a short time to live and a dead letter exchange. This process consumes it and never acknowledges
/// it, so it does not expire. When the connection is lost, the broker requeues the message, where it expires. It is renewed well within the
/// consumer timeout: the next message is published, and when it has arrived the previous one is acknowledged.
actor Life: Worker {

    private let pool: AMQPPool
    private let name: NodeName
    private let settings: RPCActorConfiguration.LifeSettings
    private let events: NodeEvents
    private let alive: @Sendable (LivingNode?) -> Void
    private let stop: StopRequest
    private let logger: Logger

    private struct LifeLost: Error, CustomStringConvertible {
        let why: String
        var description: String { "the node's last will was lost: \(why)" }
    }

    init(
        _ context: ChildContext,
        _ pool: AMQPPool,
        _ name: NodeName,
        settings: RPCActorConfiguration.LifeSettings,
        events: NodeEvents,
        alive: @escaping @Sendable (LivingNode?) -> Void
    ) {
        self.pool = pool
        self.name = name
        self.settings = settings
        self.events = events
        self.alive = alive
        stop = context.stopRequest
        logger = context.logger
    }

    func run() async throws {
        let node = name.current
        while !stop.isRequested {
            let wasAlive = OnceFlag()
            do {
                try await pool.withDedicatedChannel(unless: stop) { channel in
                    try await self.live(node, on: channel, wasAlive)
                }
                return
            } catch {
                try Task.checkCancellation()
                if wasAlive.isSet { throw LifeLost(why: "\(error)") }
                logger.debug("the node cannot place its last will yet", metadata: ["error": "\(error)"])
                // Waiting for a channel takes time, so an immediate failure does not cause a busy loop.
                await withTaskGroup(of: Void.self) { group in
                    group.addTask { try? await Task.sleep(for: .milliseconds(200)) }
                    group.addTask { [stop] in await stop.wait() }
                    await group.next()
                    group.cancelAll()
                }
            }
        }
    }

    private func live(_ node: String, on channel: AMQPChannel, _ wasAlive: OnceFlag) async throws {
        let queue = "\(node).life"
        try await channel.selectConfirms()
        try await channel.declareExchange(NodeEvent.exchange, type: .topic, durable: true)
        var arguments = QueueArguments(type: .classic)
        arguments.messageTTL = settings.timeToLive
        arguments.expires = settings.expiry
        arguments.deadLetterExchange = NodeEvent.exchange
        arguments.deadLetterRoutingKey = NodeEvent.ended(node)
        try await channel.declareQueue(queue, arguments: try arguments.fieldTable())
        try await channel.setPrefetch(2)
        let held = Held()
        _ = try await channel.consume(queue: queue) { delivery in
            if let last = held.replace(with: delivery.deliveryTag) { channel.acknowledge(last) }
        } onCancel: {
            channel.beginClose()
        }
        let message = try JSON.encode(NodeEvent.Obituary(node: node, actor: nil, kind: "no_connection"))
        try await channel.publish(message, routingKey: queue, mandatory: true)
        // Otherwise it would expire before the broker has delivered it back, and its loss would not be reported later.
        try await held.first.waitOrThrow(channel)
        name.use()
        wasAlive.set()
        alive(LivingNode(name: node, channel: channel))
        let renewal = settings.renewal
        try await withThrowingTaskGroup(of: Bool.self) { group in
            group.addTask {
                let error = await channel.waitUntilClosed()
                try Task.checkCancellation()
                throw error ?? AMQPError.channelClosed
            }
            group.addTask { [stop] in
                await stop.wait()
                return true
            }
            group.addTask {
                while true {
                    try await Task.sleep(for: renewal)
                    // While blocked it is not renewed; the broker closes the channel if that lasts too long.
                    try? await channel.publish(message, routingKey: queue, mandatory: true)
                }
            }
            group.addTask {
                try await self.watchQueue(node)
                return false
            }
            _ = try await group.next()
            group.cancelAll()
        }
        alive(nil)
        // The queue first: its remaining message must not be published as if the node had been lost.
        _ = try? await channel.deleteQueue(queue)
        await events.say(
            NodeEvent.Obituary(node: node, actor: nil, kind: "normal"),
            NodeEvent.ended(node),
            timeout: .seconds(2)
        )
    }

    /// Throws when the node's queue is unreachable for long, for example because its node of the cluster is lost: nobody could call this
    /// node, and the last will is in another queue.
    private func watchQueue(_ node: String) async throws {
        var misses = 0
        while true {
            try await Task.sleep(for: settings.check)
            do throws(AMQPError) {
                try await look(for: node)
                misses = 0
            } catch {
                // The consumer of the queue declares it again when somebody deletes it.
                guard error.cause.replyCode == 404 else { continue }
                misses += 1
                if misses >= 3 { throw error }
            }
        }
    }

    private func look(for node: String) async throws(AMQPError) {
        do {
            try await pool.withDedicatedChannel(timeout: .seconds(30)) {
                _ = try await $0.declareQueue(node, passive: true)
            }
        } catch {
            throw error as? AMQPError ?? .channelClosed
        }
    }

    /// The unacknowledged message.
    private final class Held: Sendable {
        private let tag = Mutex<UInt64?>(nil)
        let first = OneShot<Void>()

        func replace(with new: UInt64) -> UInt64? {
            let last = tag.withLock { tag in
                defer { tag = new }
                return tag
            }
            first.set(())
            return last
        }
    }
}

extension AMQPPool {
    /// Runs the body with a dedicated channel, waiting for it until a stop is requested: without a channel there is nothing to finish. A
    /// later stop is the body's responsibility.
    func withDedicatedChannel(
        unless stop: StopRequest,
        _ body: @escaping @Sendable (AMQPChannel) async throws -> Void
    ) async throws {
        let isOpen = OnceFlag()
        try await withThrowingTaskGroup(of: Bool.self) { group in
            defer { group.cancelAll() }
            group.addTask { [self] in
                try await withDedicatedChannel(timeout: .seconds(60)) { channel in
                    isOpen.set()
                    try await body(channel)
                }
                return true
            }
            group.addTask {
                await stop.wait()
                return false
            }
            while let hasEnded = try await group.next(), !hasEnded {
                if !isOpen.isSet { group.cancelAll() }
            }
        }
    }
}

extension OneShot<Void> {
    /// Waits for the value as long as the channel is open.
    fileprivate func waitOrThrow(_ channel: AMQPChannel) async throws {
        channel.onClosed { [self] _ in set(()) }
        guard await wait() != nil else { throw CancellationError() }
        if let error = channel.closedError { throw error }
    }
}

/// Follows the events of nodes and actors, on a separate channel that is reopened.
///
/// The loss of a channel, or a refusal, is not a fault of this process, and a restart would not help: it retries itself, so that nothing
/// else is restarted with it.
actor NodeEventsProcess: Worker {
    private let pool: AMQPPool
    private let events: NodeEvents
    private let logger: Logger
    private static let backoff = Backoff(minimum: .milliseconds(50), maximum: .seconds(5), jitter: 1)

    init(_ context: ChildContext, _ pool: AMQPPool, _ events: NodeEvents) {
        self.pool = pool
        self.events = events
        logger = context.logger
    }

    func run() async throws {
        var failures = 0
        while true {
            try Task.checkCancellation()
            let followed = OnceFlag()
            do {
                try await pool.withDedicatedChannel(timeout: .seconds(60)) { channel in
                    try await self.events.follow(on: channel) { followed.set() }
                }
                failures = 0
            } catch {
                try Task.checkCancellation()
                failures = followed.isSet ? 1 : failures + 1
                let delay = Self.backoff.delay(afterFailures: failures, random: .random(in: 0..<1))
                // Logged once until it has worked, because the broker's refusals stay the same.
                logger.log(
                    level: failures == 1 && (error as? AMQPError)?.cause.replyCode != nil ? .warning : .debug,
                    "events of nodes and actors are not received",
                    metadata: ["error": "\(error)", "retry-in": "\(delay)"]
                )
                try await Task.sleep(for: delay)
            }
        }
    }
}
