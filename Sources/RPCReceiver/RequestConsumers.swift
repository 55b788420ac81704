import AMQPPool
import Logging
import RPCWire
import Supervision
import Synchronization

/// The consumers of a receiver's queue, one on each channel of the pool.
final class RequestConsumers: Sendable {
    private struct Consumer {
        let channel: AMQPChannel
        let receiver: SupervisorReference
        let prefetch: UInt16
        var tag: String?
    }

    private struct State {
        var consumers: [ObjectIdentifier: Consumer] = [:]
        /// When draining ends, once it has begun: all channels share it.
        var drainDeadline: ContinuousClock.Instant?
    }

    private let service: String
    private let configuration: RPCReceiverConfiguration
    private let runner: RequestRunner
    private let logger: Logger
    private let state = Mutex(State())

    init(service: String, configuration: RPCReceiverConfiguration, runner: RequestRunner, logger: Logger) {
        self.service = service
        self.configuration = configuration
        self.runner = runner
        self.logger = logger
    }

    private var topology: RPCTopology { RPCTopology(names: configuration.names) }

    /// Makes a channel of the pool consume requests.
    func open(_ channel: AMQPChannel, _ context: ChildContext) async throws {
        let id = ObjectIdentifier(channel)
        let consumer = Consumer(channel: channel, receiver: context.poolOwner, prefetch: prefetch(of: context))
        try await topology.ensureExchange(on: channel.connection)
        try await channel.setPrefetch(consumer.prefetch)
        state.withLock { $0.consumers[id] = consumer }
        channel.onClosed { [weak self, runner] _ in
            self?.state.withLock { _ = $0.consumers.removeValue(forKey: id) }
            runner.channelClosed(id)
        }
        try await consume(on: channel)
    }

    private func consume(on channel: AMQPChannel) async throws {
        let id = ObjectIdentifier(channel)
        let queue = configuration.names.requestQueue(of: service)
        guard state.withLock({ $0.drainDeadline == nil }) else { return }
        try await topology.ensureRequestQueue(of: service, arguments: configuration.queueArguments, on: channel)
        do throws(AMQPError) {
            let tag = try await channel.consume(
                queue: queue,
                // Held by the channel itself, and let go of when that closes.
                onDelivery: { [runner] delivery in runner.accept(DeliveredRequest(delivery, on: channel), from: id) },
                onCancel: { [weak self] in self?.cancelled(channel) }
            )
            // Stopping may have begun while the consumer was: it saw no tag to cancel.
            let isDraining = state.withLock { state in
                guard state.drainDeadline == nil else { return true }
                state.consumers[id]?.tag = tag
                return false
            }
            if isDraining { try await channel.cancel(tag) }
        } catch {
            throw RPCTopologyError.named("queue", queue, error)
        }
    }

    /// The broker cancelled a consumer: the queue was deleted, or its node failed. It is declared and consumed again.
    private func cancelled(_ channel: AMQPChannel) {
        logger.warning("the broker cancelled a consumer of the service's queue", metadata: ["service": "\(service)"])
        state.withLock { $0.consumers[ObjectIdentifier(channel)]?.tag = nil }
        Task.detached { [self] in
            do {
                try await consume(on: channel)
            } catch {
                logger.warning("the service's queue cannot be consumed again", metadata: ["error": "\(error)"])
                // The process that holds the channel makes a new one, after a backoff.
                await channel.close()
            }
        }
    }

    /// The channel's share of the concurrency: all together have exactly that, but no channel has none.
    private func prefetch(of context: ChildContext) -> UInt16 {
        let channels = max(1, configuration.pool.channelsPerConnection)
        let total = max(1, configuration.pool.connections) * channels
        let connection = Self.number(context.supervisor.parent?.name) - 1
        let index = connection * channels + Self.number(context.id) - 1
        let share = configuration.concurrency / total + (index < configuration.concurrency % total ? 1 : 0)
        return UInt16(clamping: max(1, share))
    }

    /// The number at the end of a name such as "channel-2".
    private static func number(_ name: String?) -> Int {
        name?.split(separator: "-").last.flatMap { Int($0) } ?? 1
    }

    // MARK: Stopping

    /// A channel is about to be closed because its process is stopped. When it is because the whole receiver is, what was handed
    /// over is answered first, as far as there is time, and no channel takes anything more on. When only a part of the tree
    /// is started anew, there is no time to lose: the broker redelivers.
    func drain(_ channel: AMQPChannel) async {
        let id = ObjectIdentifier(channel)
        let begun = state.withLock { state -> ([(AMQPChannel, String)], ContinuousClock.Instant)? in
            guard let consumer = state.consumers[id], consumer.receiver.endingReason != nil else { return nil }
            let deadline = state.drainDeadline ?? .now + configuration.drainTimeout
            state.drainDeadline = deadline
            var stopping: [(AMQPChannel, String)] = []
            for (key, consumer) in state.consumers {
                guard let tag = consumer.tag else { continue }
                state.consumers[key]?.tag = nil
                stopping.append((consumer.channel, tag))
            }
            return (stopping, deadline)
        }
        guard let (stopping, deadline) = begun else { return }
        await withTaskGroup(of: Void.self) { group in
            for (channel, tag) in stopping {
                group.addTask {
                    // When it fails, the channel is over, and so are its deliveries.
                    try? await channel.cancel(tag)
                }
            }
        }
        if await !runner.idle(id, before: deadline) {
            logger.warning(
                "requests are not answered in time, and will be redelivered",
                metadata: ["service": "\(service)"]
            )
        }
    }
}
