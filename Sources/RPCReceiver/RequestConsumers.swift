import AMQPPool
internal import ConcurrencyPrimitives
import Logging
import RPCWire
import Supervision
import Synchronization

/// The consumers of a receiver's queue, one on each channel of the pool.
final class RequestConsumers: Sendable {
    private struct Consumer {
        let channel: AMQPChannel
        let receiver: SupervisorReference
        var tag: String?
        /// The current operation on it: one at a time.
        var work: Task<Void, any Error>?
    }

    private struct State {
        var consumers: [ObjectIdentifier: Consumer] = [:]
        /// Whether consuming is suspended.
        var isSuspended = false
        /// The deadline of draining, once it has begun, shared by all channels.
        var drainDeadline: ContinuousClock.Instant?
        /// Why requests do not reach the queue, according to the last check.
        var topologyFault: String?
        /// Checks the topology periodically.
        var watch: Task<Void, Never>?
        var hasEnded = false

        var mayConsume: Bool { drainDeadline == nil && !isSuspended }
    }

    private enum Step {
        case consume(AMQPChannel)
        case cancel(AMQPChannel, tag: String)
    }

    private let service: String
    private let configuration: RPCReceiverConfiguration
    private let queue: RequestQueue
    private let runner: RequestRunner
    private let logger: Logger
    private let changed: @Sendable () -> Void
    private let state = Mutex(State())

    init(
        service: String,
        configuration: RPCReceiverConfiguration,
        queue: RequestQueue,
        runner: RequestRunner,
        logger: Logger,
        changed: @escaping @Sendable () -> Void
    ) {
        self.service = service
        self.configuration = configuration
        self.queue = queue
        self.runner = runner
        self.logger = logger
        self.changed = changed
    }

    /// The consumed queue.
    var queueName: String { queue.name }

    private var topology: RPCTopology { RPCTopology(names: configuration.names) }

    /// The phase of all consumers.
    enum Phase {
        case none
        case consuming
        case suspended
        case stopping
    }

    var phase: Phase {
        state.withLock { state in
            if state.drainDeadline != nil { return .stopping }
            if state.isSuspended { return .suspended }
            if state.topologyFault != nil { return .none }
            return state.consumers.values.contains { $0.tag != nil } ? .consuming : .none
        }
    }

    /// Why requests do not reach the queue, according to the last check.
    var topologyFault: String? { state.withLock { $0.topologyFault } }

    /// Makes a channel of the pool consume requests.
    func open(_ channel: AMQPChannel, _ context: ChildContext) async throws {
        let id = ObjectIdentifier(channel)
        if !queue.bindings.isEmpty { try await topology.ensureExchange(on: channel.connection) }
        try await channel.setPrefetch(prefetch(of: context))
        runner.channelOpened(id)
        state.withLock { $0.consumers[id] = Consumer(channel: channel, receiver: context.poolOwner) }
        channel.onClosed { [weak self, runner] error in
            self?.state.withLock { _ = $0.consumers.removeValue(forKey: id) }
            runner.channelClosed(id, error)
            self?.changed()
        }
        try await settle(id)
        startWatch()
    }

    // MARK: The exchange, the queue and its bindings

    /// A consumer is not notified when its queue's binding, or the exchange, is deleted: it would wait forever for requests. The topology
    /// is therefore checked periodically, on a separate channel, and missing parts are declared again.
    private func startWatch() {
        let isNeeded = state.withLock { $0.watch == nil && !$0.hasEnded }
        guard isNeeded else { return }
        let interval = configuration.topologyCheckInterval.bounded
        let watch = Task.detached { [weak self] in
            while !Task.isCancelled {
                try? await Task.sleep(for: interval)
                guard !Task.isCancelled, let self else { return }
                await checkTopology()
            }
        }
        let isUnwanted = state.withLock { state in
            guard state.watch == nil, !state.hasEnded else { return true }
            state.watch = watch
            return false
        }
        if isUnwanted { watch.cancel() }
    }

    /// Ends this incarnation.
    func end() {
        let watch = state.withLock { state in
            state.hasEnded = true
            return state.watch
        }
        watch?.cancel()
    }

    private func checkTopology() async {
        guard let connection = state.withLock({ $0.consumers.values.first?.channel.connection }) else { return }
        let fault: String?
        do {
            try await topology.check(queue, on: connection)
            fault = nil
        } catch let error as RPCTopologyError {
            fault = "\(error)"
        } catch let error as AMQPError {
            // The loss of a connection is reported elsewhere.
            guard case .channelClosedByBroker = error.cause else { return }
            fault = "\(error)"
        } catch {
            return
        }
        let isChanged = state.withLock { state in
            defer { state.topologyFault = fault }
            return state.topologyFault != fault
        }
        guard isChanged else { return }
        let metadata: Logger.Metadata = ["service": "\(service)", "queue": "\(queue.name)"]
        if let fault {
            var metadata = metadata
            metadata["error"] = "\(fault)"
            logger.error("requests do not reach the service's queue", metadata: metadata)
        } else {
            logger.notice("requests reach the service's queue again", metadata: metadata)
        }
        changed()
    }

    // MARK: One consumer

    /// Makes a channel consume, or stop, according to the current state, after earlier operations on the same channel.
    private func settle(_ id: ObjectIdentifier) async throws {
        let work = state.withLock { state -> Task<Void, any Error>? in
            let before = state.consumers[id]?.work
            let work = Task.detached { [self] in
                _ = await before?.result
                try await settleNow(id)
            }
            state.consumers[id]?.work = work
            return work
        }
        try await work?.value
    }

    private func settleNow(_ id: ObjectIdentifier) async throws {
        let step = state.withLock { state -> Step? in
            guard let consumer = state.consumers[id] else { return nil }
            switch (consumer.tag, state.mayConsume) {
            case (nil, true): return .consume(consumer.channel)
            case (let tag?, false):
                state.consumers[id]?.tag = nil
                return .cancel(consumer.channel, tag: tag)
            case (nil, false), (.some, true): return nil
            }
        }
        switch step {
        case .consume(let channel): try await consume(on: channel)
        case .cancel(let channel, let tag): try await channel.cancel(tag)
        case nil: return
        }
        changed()
    }

    private func consume(on channel: AMQPChannel) async throws {
        let id = ObjectIdentifier(channel)
        try await topology.ensure(queue, on: channel)
        // The broker may cancel the consumer before this side has read the answer to its consume.
        let isCancelled = OnceFlag()
        do throws(AMQPError) {
            let tag = try await channel.consume(
                queue: queue.name,
                onRefused: { [runner] refused in runner.accept(DeliveredRequest(refused, on: channel), from: id) },
                // Retained by the channel, and released when that closes.
                onDelivery: { [runner] delivery in
                    runner.accept(DeliveredRequest(delivery, on: channel), from: id)
                },
                onCancel: { [weak self] in
                    isCancelled.set()
                    self?.cancelled(channel)
                }
            )
            // Stopping may have begun in the meantime: it found no tag to cancel.
            let isUnwanted = state.withLock { state in
                guard state.mayConsume else { return true }
                if !isCancelled.isSet { state.consumers[id]?.tag = tag }
                return false
            }
            if isUnwanted { try await channel.cancel(tag) }
        } catch {
            throw RPCTopologyError.named("queue", queue.name, error)
        }
    }

    /// The broker cancelled a consumer: the queue was deleted, or its node failed. It is declared and consumed again.
    private func cancelled(_ channel: AMQPChannel) {
        logger.warning("the broker cancelled a consumer of the service's queue", metadata: ["service": "\(service)"])
        state.withLock { $0.consumers[ObjectIdentifier(channel)]?.tag = nil }
        changed()
        settleOrClose(channel)
    }

    private func settleOrClose(_ channel: AMQPChannel) {
        // Not awaited here: the channel's next operation waits for it, and it ends with the channel.
        Task.detached { [self] in
            do {
                try await settle(ObjectIdentifier(channel))
            } catch {
                logger.warning("the service's queue cannot be consumed again", metadata: ["error": "\(error)"])
                // The channel's process opens a new one, after a backoff.
                await channel.close()
            }
        }
    }

    /// The channel's share of the prefetch: together the channels have exactly the prefetch, but each has at least 1.
    private func prefetch(of context: ChildContext) -> UInt16 {
        if let prefetch = configuration.channelPrefetch { return prefetch }
        // No broker allows more channels.
        let channels = min(max(1, configuration.pool.channelsPerConnection), 1 << 16)
        let total = min(max(1, configuration.pool.connections), 1 << 16) * channels
        let connection = Self.number(context.supervisor.parent?.name) - 1
        let index = connection * channels + Self.number(context.id) - 1
        let share = configuration.prefetch / total + (index < configuration.prefetch % total ? 1 : 0)
        return UInt16(clamping: max(1, share))
    }

    /// The number at the end of a name such as "channel-2".
    private static func number(_ name: String?) -> Int {
        name?.split(separator: "-").last.flatMap { Int($0) } ?? 1
    }

    // MARK: Suspending and stopping

    /// Suspends or resumes consuming, depending on whether too many handlers ignore their cancellation. Evaluated under the lock, so that
    /// the last call decides.
    func suspend(if isTooMany: () -> Bool) {
        let channels = state.withLock { state -> [AMQPChannel]? in
            let isSuspended = isTooMany()
            guard isSuspended != state.isSuspended else { return nil }
            state.isSuspended = isSuspended
            log(isSuspended: isSuspended)
            return state.consumers.values.map(\.channel)
        }
        guard let channels else { return }
        changed()
        for channel in channels { settleOrClose(channel) }
    }

    private func log(isSuspended: Bool) {
        let metadata: Logger.Metadata = ["service": "\(service)", "zombies": "\(runner.zombieCount)"]
        if isSuspended {
            logger.error(
                "too many handlers ignore their cancellation: no more requests are accepted",
                metadata: metadata
            )
        } else {
            logger.notice("requests are accepted again", metadata: metadata)
        }
    }

    /// Called when a channel is about to be closed because its process is stopped. If the whole receiver is stopping, delivered requests
    /// are answered first, as far as there is time, and no channel accepts more. If only a part of the tree is restarting, there is no time
    /// for that: the broker redelivers.
    func drain(_ channel: AMQPChannel) async {
        guard configuration.drains() else { return }
        let id = ObjectIdentifier(channel)
        let begun = state.withLock { state -> ([ObjectIdentifier], ContinuousClock.Instant)? in
            guard let consumer = state.consumers[id], consumer.receiver.endingReason != nil else { return nil }
            let deadline = state.drainDeadline ?? .now + configuration.drainTimeout.bounded
            state.drainDeadline = deadline
            return (Array(state.consumers.keys), deadline)
        }
        guard let (channels, deadline) = begun else { return }
        changed()
        await withTaskGroup(of: Void.self) { group in
            for id in channels {
                // If it fails, the channel has ended, and its deliveries with it.
                group.addTask { [self] in try? await settle(id) }
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
