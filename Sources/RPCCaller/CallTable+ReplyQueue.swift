import AMQPPool
import ConcurrencyPrimitives
import Logging
import NIOCore
import RPCWire
import Synchronization

/// Attaches channels to the reply queue, and moves them when it is lost.
extension CallTable {
    /// Makes a channel of the pool ready for calls: returns when replies can arrive through it.
    func open(_ channel: AMQPChannel) async throws {
        do {
            try await prepare(channel)
            setUpFailure.withLock { $0 = nil }
        } catch {
            setUpFailure.withLock { $0 = "\(error)" }
            throw error
        }
    }

    private func prepare(_ channel: AMQPChannel) async throws {
        try await RPCTopology(names: settings.names).ensureExchange(on: channel.connection)
        if !settings.confirms { await channel.onReturn { [weak self] in self?.returned($0) } }
        try await channel.setPrefetch(settings.replyPrefetch)
        let id = ObjectIdentifier(channel)
        let number = state.withLock { state in
            state.lastChannel &+= 1
            state.channels[id] = AttachedChannel(channel: channel, number: state.lastChannel)
            return state.lastChannel
        }
        channel.onClosed { [weak self] error in
            self?.brokerLimit.learn(from: error)
            self?.closed(id, number)
        }
        switch settings.replies {
        case .direct: try await consumeDirectReplies(on: channel)
        case .queue:
            // First, so that no old queue is left once calls work; and again for queues abandoned in the meantime.
            await abandoned.delete(on: channel.connection)
            try await attach(channel)
            await abandoned.delete(on: channel.connection)
        }
    }

    /// Consumes `amq.rabbitmq.reply-to`: replies to requests sent on this channel arrive on this channel, unacknowledged; the broker stores
    /// none of them.
    private func consumeDirectReplies(on channel: AMQPChannel) async throws {
        let queue = RPCReplies.directQueue
        do throws(AMQPError) {
            _ = try await channel.consume(
                queue: queue,
                noAck: true,
                onDelivery: { [weak self] delivery in self?.replied(delivery) },
                // Its replies cannot arrive any more. The channel's process opens a new one.
                onCancel: { channel.beginClose() }
            )
        } catch {
            throw RPCTopologyError.named("queue", queue, error)
        }
    }

    /// Declares and consumes the reply queue, and repeats that if the name has changed in the meantime.
    private func attach(_ channel: AMQPChannel) async throws {
        let id = ObjectIdentifier(channel)
        while true {
            let begun = state.withLock { state -> (ReplyQueueState<ObjectIdentifier>.Attempt, String?)? in
                // After the end of the table nobody would consume the declared queue.
                guard !state.pending.isClosed, let tag = state.channels[id].map(\.tag) else { return nil }
                state.channels[id]?.tag = nil
                return (state.replyQueue.begin(id), tag)
            }
            guard let (attempt, oldTag) = begun else { throw channel.closedError ?? AMQPError.channelClosed }
            do {
                if let oldTag { try await channel.cancel(oldTag) }
                let consumers = try await declare(attempt.name, on: channel)
                if apply({ $0.replyQueue.declared(id, attempt, consumers: consumers) }) == .proceed {
                    let tag = try await consume(attempt.name, on: channel)
                    state.withLock { $0.channels[id]?.tag = tag }
                    if apply({ $0.replyQueue.consumes(id, attempt) }) == .proceed { return }
                }
                // The name was abandoned in the meantime, and this declaration may have recreated its queue.
                abandoned.add(attempt.name)
            } catch {
                // The same holds for a name whose channel ended before it consumed: known when the channel is closed.
                channel.onClosed { [self] _ in abandonIfGivenUp(attempt.name) }
                throw error
            }
        }
    }

    /// Called when the table has ended and the channel is about to be closed. A channel that was still attaching may have redeclared the
    /// reply queue after the last consumer was gone, and nobody else would delete it.
    func abandonReplyQueue(of channel: AMQPChannel) async {
        let id = ObjectIdentifier(channel)
        switch settings.replies {
        case .direct: return
        case .queue: guard state.withLock({ $0.channels[id].map { $0.tag == nil } }) == true else { return }
        }
        await channel.close()
        await abandoned.delete(on: channel.connection)
    }

    private func abandonIfGivenUp(_ name: String) {
        let isGivenUp = state.withLock { $0.pending.isClosed || $0.replyQueue.name != name }
        if isGivenUp { abandoned.add(name) }
    }

    private func declare(_ queue: String, on channel: AMQPChannel) async throws -> Int {
        do throws(AMQPError) {
            let milliseconds = RequestMessage.milliseconds(settings.replyQueueExpiry)
            let consumers = try await channel.declareQueue(
                queue,
                durable: true,
                autoDelete: true,
                arguments: ["x-expires": .int64(milliseconds)]
            ).consumerCount
            if let exchange = settings.bounceExchange {
                let match: FieldTable = ["x-match": "all", Header.caller: .string(queue)]
                try await channel.declareExchange(exchange, type: .headers, durable: true)
                try await channel.bindQueue(queue, to: exchange, arguments: match)
            }
            return consumers
        } catch {
            throw refused(queue, error)
        }
    }

    private func consume(_ queue: String, on channel: AMQPChannel) async throws -> String {
        let acknowledgements = ReplyAcknowledgements(channel)
        do throws(AMQPError) {
            return try await channel.consume(
                queue: queue,
                onDelivery: { [weak self] delivery in
                    self?.replied(delivery)
                    acknowledgements.add(delivery.deliveryTag)
                },
                onCancel: { [weak self, id = ObjectIdentifier(channel)] in
                    self?.apply { (.proceed, $0.replyQueue.cancelled(id, name: queue)) }
                }
            )
        } catch {
            throw refused(queue, error)
        }
    }

    private func refused(_ queue: String, _ error: AMQPError) -> any Error {
        if error.replyCode == 404 { apply { (.proceed, $0.replyQueue.missing(name: queue)) } }
        return RPCTopologyError.named("queue", queue, error)
    }

    /// Handles the end of a channel.
    private func closed(_ id: ObjectIdentifier, _ number: UInt32) {
        // While the caller is stopping, waiting calls go on as long as another channel exists.
        if state.withLock({ !$0.pending.isDraining }) { closeIfDependencyEnded() }
        switch settings.replies {
        case .queue:
            apply { state in
                state.channels[id] = nil
                return (.proceed, state.replyQueue.closed(id))
            }
        case .direct:
            let lost = release { state in
                state.channels[id] = nil
                return state.pending.repliesLost(route: number) { $0.withdraw() }
            }
            carryOut(lost)
        }
    }

    /// Applies an event to the state of the reply queue, and performs the resulting actions.
    @discardableResult
    private func apply(
        _ decide: (inout State) -> (ReplyQueueState<ObjectIdentifier>.Step, [ReplyQueueState<ObjectIdentifier>.Action])
    ) -> ReplyQueueState<ObjectIdentifier>.Step {
        var lost: (name: String, next: String, calls: PendingTable<PendingCall>.RepliesLost)?
        var moving: [AMQPChannel] = []
        var isUsable = false
        var isEnding = false
        let step = release { state in
            let (step, actions) = decide(&state)
            isEnding = state.pending.isDraining || state.pending.isClosed
            for action in actions {
                switch action {
                case .lost(let name):
                    abandoned.add(name)
                    lost = (name, state.replyQueue.name, state.pending.repliesLost { $0.withdraw() })
                // After the end of the table there is nothing to move to.
                case .move(let id) where !state.pending.isClosed:
                    moving += state.channels[id].map { [$0.channel] } ?? []
                case .move: break
                case .usable: isUsable = true
                }
            }
            return step
        }
        if let lost {
            logger.log(
                // A caller that ends abandons its queue: not worth a notice.
                level: isEnding ? .debug : .notice,
                "the reply queue is lost",
                metadata: ["queue": "\(lost.name)", "next": "\(lost.next)", "calls": "\(lost.calls.ended.count)"]
            )
            carryOut(lost.calls)
        }
        for channel in moving { move(channel) }
        if isUsable { sendQueued() }
        if isUsable || lost != nil { changed() }
        return step
    }

    private func carryOut(_ lost: PendingTable<PendingCall>.RepliesLost) {
        for ending in lost.ended { ending.call.end(.failed(.replyQueueLost)) }
        for retry in lost.retries { pause(retry, .replyQueueLost) }
        guard !lost.withdrawn.isEmpty else { return }
        state.withLock { state in
            for id in lost.withdrawn { state.pending.enqueue(id) }
        }
        sendQueued()
    }

    /// Attaches a channel to the new name. A channel that cannot be attached is closed; its process opens a new one.
    private func move(_ channel: AMQPChannel) {
        // Not awaited: it ends with the channel, and each of its operations within the operation timeout.
        Task.detached { [self] in
            do {
                try await attach(channel)
                await abandoned.delete(on: channel.connection)
            } catch {
                logger.warning("a channel did not move to the new reply queue", metadata: ["error": "\(error)"])
                await channel.close()
            }
        }
    }
}

/// Acknowledges replies in batches: all replies of one read from the socket with one frame.
private final class ReplyAcknowledgements: Sendable {
    private let channel: AMQPChannel
    private let last = Mutex<UInt64?>(nil)

    init(_ channel: AMQPChannel) {
        self.channel = channel
    }

    /// Called on the event loop, in order. The channel has no other consumer, so an acknowledgement with `multiple` covers only processed
    /// replies.
    func add(_ tag: UInt64) {
        let isFirst = last.withLock { last in
            defer { last = tag }
            return last == nil
        }
        guard isFirst else { return }
        channel.eventLoop.execute { [self] in
            let tag = last.withLock { last in
                defer { last = nil }
                return last
            }
            if let tag { channel.acknowledge(tag, multiple: true) }
        }
    }
}

extension CallTable {
    /// Where replies arrive, for the log.
    var replyDetails: Logger.Metadata {
        switch settings.replies {
        case .queue: ["replies": "\(state.withLock { $0.replyQueue.name })"]
        case .direct: ["replies": "\(RPCReplies.directQueue)"]
        }
    }
}
