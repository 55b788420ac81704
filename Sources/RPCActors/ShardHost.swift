import AMQPPool
import ConcurrencyPrimitives
public import Distributed
import Foundation
import Logging
import NIOCore
import RPCReceiver
import RPCWire
public import Supervision
import Synchronization

/// The identity of one activation of a virtual actor.
public struct VirtualActivation: Sendable, Hashable {
    /// The key of the actor.
    public let key: String
    /// The kind.
    public let kind: String
    /// A number greater than those of all earlier activations of this key, on any node: a fencing token for external writes of the actor. A
    /// store that rejects numbers smaller than the greatest it has seen is protected from a node that was disconnected or frozen, and does
    /// not know yet that another has taken over.
    public let number: Int64

    init(key: String, kind: String, number: Int64) {
        self.key = key
        self.kind = kind
        self.number = number
    }
}

/// The settings of a kind of virtual actors.
public struct VirtualActorSettings: Sendable {
    /// How long an activation may go without a call before it is ended; the next call creates another one. Default 5 minutes.
    public var idle: Duration
    /// The maximum number of unanswered requests that a node takes from a shard, 0 for no limit. Default 1,000.
    ///
    /// Requests that wait for their actor's turn count. If an actor calls another one of its shard while that many are waiting, the call
    /// waits behind them, and they wait for it, until its deadline. With 1, an actor must therefore never call another one of its shard.
    public var prefetch: UInt16
    /// Whether the shards' queues are replicated in the cluster. Default false. Quorum queues before RabbitMQ 4 have no priorities, so a
    /// node that takes over with many waiting requests may begin a second later.
    public var usesQuorumQueues: Bool
    /// How long a stop waits for running requests. Default 30 s.
    public var drainTimeout: Duration

    var table = TableSettings()

    struct TableSettings: Sendable {
        var renewal = Duration.seconds(20)
        var tokenTimeout = Duration.seconds(1)
        var yieldPause = Duration.seconds(1)

        init() {}
    }

    /// Creates settings. Each parameter sets the property of its name.
    public init(
        idle: Duration = Duration.seconds(300),
        prefetch: UInt16 = 1000,
        usesQuorumQueues: Bool = false,
        drainTimeout: Duration = Duration.seconds(30)
    ) {
        self.idle = idle
        self.prefetch = prefetch
        self.usesQuorumQueues = usesQuorumQueues
        self.drainTimeout = drainTimeout
    }
}

/// The process for this node's share of a kind of virtual actors.
public actor ShardHost: Worker {
    private let system: RPCActorSystem
    private let name: ShardName
    private let settings: VirtualActorSettings
    private let type: any DistributedActor.Type
    private let make: @Sendable (VirtualActivation) async throws -> any DistributedActor
    private let stop: StopRequest
    private let logger: Logger
    private let ready: OneShot<Void>
    private nonisolated let session = Mutex<ShardSession?>(nil)

    init(
        _ context: ChildContext,
        _ system: RPCActorSystem,
        _ name: ShardName,
        settings: VirtualActorSettings,
        type: any DistributedActor.Type,
        make: @escaping @Sendable (VirtualActivation) async throws -> any DistributedActor
    ) {
        self.system = system
        self.name = name
        self.settings = settings
        self.type = type
        self.make = make
        stop = context.stopRequest
        logger = context.logger
        ready = system.hosting(name.kind)
    }

    /// The number of shards that this node works on.
    public nonisolated var activeShards: Int { session.withLock { $0 }?.activeShards ?? 0 }

    /// The number of active virtual actors on this node.
    public nonisolated var activations: Int { session.withLock { $0 }?.activations ?? 0 }

    /// Consumes the shards on one channel after another until it is stopped.
    public func run() async throws {
        let wasOpen = OnceFlag()
        var failures = 0
        let backoff = Backoff(minimum: .milliseconds(50), maximum: .seconds(5), jitter: 1)
        while !stop.isRequested {
            do {
                try await system.pool.withDedicatedChannel(unless: stop) { channel in
                    try await self.serveShards(on: channel, wasOpen)
                }
                failures = 0
            } catch {
                try Task.checkCancellation()
                let refusal = (error as? AMQPError)?.cause.replyCode
                if !wasOpen.isSet, refusal == 403 || refusal == 406 { throw error }
                failures += 1
                let delay = backoff.delay(afterFailures: failures, random: .random(in: 0..<1))
                logger.debug("the shards are not consumed", metadata: ["error": "\(error)", "retry-in": "\(delay)"])
                await pause(delay)
            }
        }
    }

    private func pause(_ delay: Duration) async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { try? await Task.sleep(for: delay) }
            group.addTask { [stop] in await stop.wait() }
            await group.next()
            group.cancelAll()
        }
    }

    private func serveShards(on channel: AMQPChannel, _ wasOpen: OnceFlag) async throws {
        guard let sink = system.nodeReceiver.sink else { throw AMQPError.poolNotRunning }
        var table = ShardTable.Settings()
        table.renewal = settings.table.renewal
        table.tokenTimeout = settings.table.tokenTimeout
        table.yieldPause = settings.table.yieldPause
        let session = ShardSession(
            system,
            name,
            on: channel,
            sink: sink,
            settings: table,
            type: type,
            logger: logger,
            make: make
        )
        self.session.withLock { $0 = session }
        channel.onClosed { _ in session.lost() }
        // Without the handlers nothing may be held.
        let handlers = sink.pid.onExit { _ in channel.beginClose() }
        defer { handlers.cancel() }
        try await channel.selectConfirms()
        // One of them is the token, which is held as long as the shard.
        try await channel.setPrefetch(settings.prefetch == 0 ? 0 : max(settings.prefetch, settings.prefetch &+ 1))
        // Very many shards take a while, which a stop does not wait for.
        for shard in 0..<name.count where !stop.isRequested { try await declare(shard, on: channel) }
        for shard in 0..<name.count where !stop.isRequested { try await session.consume(shard) }
        wasOpen.set()
        ready.set(())
        let memberships = system.events.memberships(of: system.service)
        // Not earlier: nodes that learn of it hand over the shards that belong here.
        await system.holds(name.heldKind, true)
        await withTaskGroup(of: Void.self) { group in
            group.addTask { _ = await channel.waitUntilClosed() }
            group.addTask { [stop] in await stop.wait() }
            group.addTask { for await membership in memberships { session.place(membership) } }
            group.addTask { [idle = settings.idle.bounded] in
                let interval = min(.milliseconds(200), max(.milliseconds(10), idle / 4))
                while !Task.isCancelled {
                    try? await Task.sleep(for: interval)
                    session.tick(idle: idle)
                }
            }
            await group.next()
            // The memberships do not end by themselves.
            group.cancelAll()
        }
        await system.holds(name.heldKind, false)
        if let error = channel.closedError { throw error }
        session.stop()
        _ = await session.released.wait(atMost: settings.drainTimeout.bounded)
    }

    private func declare(_ shard: Int, on channel: AMQPChannel) async throws {
        var arguments = QueueArguments(type: settings.usesQuorumQueues ? .quorum : .classic)
        arguments.singleActiveConsumer = true
        if !settings.usesQuorumQueues { arguments.maximumPriority = 1 }
        let queue = name.queue(shard)
        let status = try await channel.declareQueue(queue, durable: true, arguments: try arguments.fieldTable())
        guard status.messageCount == 0, status.consumerCount == 0 else { return }
        // New or purged. Two nodes may do this at the same time: then there are two tokens, and the second is dropped.
        try await channel.publish(
            try JSON.encode(ShardToken(number: 0, node: "")),
            properties: MessageProperties(
                contentType: JSON.contentType,
                deliveryMode: .persistent,
                priority: 1,
                type: ShardToken.messageType
            ),
            routingKey: queue,
            mandatory: true
        )
    }
}

extension Child {
    /// The virtual actors of a kind: one per key, created by its first call, on one of the nodes that have this child.
    ///
    ///     Child.virtual("account", shards: 64, in: actors) { activation in
    ///         BankAccount(activation.key, fence: activation.number, actorSystem: actors)
    ///     }
    ///
    /// A key belongs to one shard, and each shard to one node; added and removed nodes move shards, but nothing else. An activation handles
    /// one call at a time, in order of arrival, and ends when nobody has called it for ``VirtualActorSettings/idle``, when it crashes
    /// (``CrashingError``), or when its shard moves. While the broker's connection holds there is one activation of a key at a time; see
    /// <doc:Guarantees> for the possible effects of a frozen process.
    ///
    /// - Parameters:
    ///   - kind: Its id among its siblings, and the kind in addresses: `ActorAddress.virtual(service, kind, key, shards:)`. It must contain
    ///     none of `!`, `@`, `#`, `/`.
    ///   - shards: The number of shards: the same everywhere, as long as the queues exist. Use 64 or more, so that shares are similar.
    ///   - actors: The system. List its `supervisor` before this child.
    ///   - settings: The settings of the kind.
    ///   - make: Creates the actor for a key, with the system as its actor system; it may read the actor's state, for example. An error
    ///     that it throws is the answer to the call, like that of a method; the next call tries again. The actor's type must be exported.
    public static func virtual<Act: DistributedActor>(
        _ kind: String,
        shards: Int,
        in actors: RPCActorSystem,
        settings: VirtualActorSettings = VirtualActorSettings(),
        make: @escaping @Sendable (VirtualActivation) async throws -> Act
    ) -> Child where Act.ActorSystem == RPCActorSystem {
        let name = ShardName(service: actors.service, kind: kind, count: shards)
        return Child(
            kind,
            options: ChildOptions(
                shutdown: .timeout(settings.drainTimeout.bounded + .seconds(5)),
                backoff: Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 1)
            )
        ) { context -> ShardHost? in
            guard name.isValid else { throw RPCActorConfigurationError.invalidKind(kind) }
            return ShardHost(context, actors, name, settings: settings, type: Act.self) { try await make($0) }
        }
    }
}
