internal import ConcurrencyPrimitives
import NIOCore
import Supervision
import Synchronization

/// What a consumer makes of a delivery before it is its turn.
package struct PreparedDelivery: Sendable {
    package var message: any DeliveredMessage
    /// Messages of one are handled one after another, or in batches of their own.
    package var partition: Int?
    /// Which attempt this is.
    package var attempt = 1
    /// What becomes of it without being handled.
    package var disposition: Disposition?

    package init(_ message: any DeliveredMessage) {
        self.message = message
    }
}

/// One consumer incarnation on one channel: it brings what is delivered to the runner, and settlements back.
///
/// Once it is over, nothing reaches the channel through it any more: what it has not settled is the next one's.
final class ConsumerSession: DeliverySource {
    /// Why the broker delivers nothing more.
    enum Interruption: Sendable {
        case cancelledByBroker
        case channelEnded(AMQPError)
        /// The consumer's settings have changed.
        case reconfigured
    }

    /// One consumer at the broker.
    struct Consuming: Sendable {
        let tag: String
        let interruption: OneShot<Interruption>
    }

    private struct State {
        var source: UInt64 = 0
        var tag: String?
        /// What the queue is said to be; nil when nobody knows.
        var declaredType: QueueArguments.QueueType?
        var isProbing = false
        var offsets: StreamOffsets?
        var unsettled = UnsettledTags()
        /// Nothing reaches the channel any more.
        var isOver = false
    }

    let channel: AMQPChannel
    private let runner: DeliveryRunner
    private let prepare: @Sendable (Delivery, QueueArguments.QueueType?) -> PreparedDelivery
    /// Finds out whether the queue is a stream.
    private let isStream: @Sendable () async -> Bool
    private let onOffset: @Sendable (Int64) -> Void
    private let state = Mutex(State())

    init(
        on channel: AMQPChannel,
        runner: DeliveryRunner,
        prepare: @escaping @Sendable (Delivery, QueueArguments.QueueType?) -> PreparedDelivery,
        isStream: @escaping @Sendable () async -> Bool,
        onOffset: @escaping @Sendable (Int64) -> Void
    ) {
        self.channel = channel
        self.runner = runner
        self.prepare = prepare
        self.isStream = isStream
        self.onOffset = onOffset
        let source = runner.open(self, .queue)
        state.withLock { $0.source = source }
        channel.onClosed { [runner] _ in runner.close(source) }
    }

    /// The consumer at the broker.
    var tag: String? { state.withLock { $0.tag } }

    var source: UInt64 { state.withLock { $0.source } }

    /// Behind what of a stream has come here, and is handled here, whatever consumer it came to.
    var nextOffset: Int64? { state.withLock { $0.offsets?.afterLast } }

    /// Whether the broker closes the connection for anything but an acknowledgement.
    var mayBeStream: Bool { runner.kind(of: source) != .queue }

    // MARK: Consuming

    /// Starts a consumer, and returns what tells when it has ended.
    func consume(
        _ name: String,
        type: QueueArguments.QueueType?,
        exclusive: Bool,
        arguments: FieldTable
    ) async throws(AMQPError) -> Consuming {
        let interruption = OneShot<Interruption>()
        // Known before it is sent, so that it can be cancelled whatever happens meanwhile.
        let tag = "swift-consumer-\(UInt64.random(in: .min ... .max))"
        let source = state.withLock { state in
            state.tag = tag
            state.declaredType = type
            state.isProbing = false
            state.offsets = type == .stream ? state.offsets ?? StreamOffsets() : nil
            return state.source
        }
        runner.determined(source, type == .stream ? .stream : .queue)
        _ = try await channel.consume(
            queue: name,
            tag: tag,
            exclusive: exclusive,
            arguments: arguments,
            onRefused: { self.refused($0) },
            onDelivery: { self.delivered($0) },
            onCancel: { interruption.set(.cancelledByBroker) }
        )
        channel.onClosed { [weak interruption] in interruption?.set(.channelEnded($0)) }
        return Consuming(tag: tag, interruption: interruption)
    }

    private func delivered(_ delivery: Delivery) {
        let offset = delivery.streamOffset
        let (source, type, mustProbe) = state.withLock { state in
            let mustProbe = offset != nil && state.declaredType == nil && !state.isProbing
            if mustProbe {
                state.isProbing = true
                state.offsets = StreamOffsets()
            }
            if let offset { state.offsets?.delivered(delivery.deliveryTag, offset) }
            state.unsettled.delivered(delivery.deliveryTag)
            return (state.source, state.declaredType, mustProbe)
        }
        if mustProbe { probe(source) }
        runner.deliver(prepare(delivery, type), from: source, tag: delivery.deliveryTag)
    }

    /// A delivery that cannot be accepted: it is rejected, where there is such a thing.
    private func refused(_ refused: RefusedDelivery) {
        let (source, type, mustProbe) = state.withLock { state in
            let mustProbe = state.declaredType == nil && !state.isProbing
            if mustProbe { state.isProbing = true }
            state.unsettled.delivered(refused.deliveryTag)
            return (state.source, state.declaredType, mustProbe)
        }
        if mustProbe { probe(source) }
        let delivery = Delivery(
            consumerTag: "",
            deliveryTag: refused.deliveryTag,
            redelivered: refused.redelivered,
            exchange: refused.exchange,
            routingKey: refused.routingKey,
            properties: refused.properties ?? MessageProperties(),
            body: ByteBuffer()
        )
        var prepared = PreparedDelivery(prepare(delivery, type).message)
        prepared.disposition = .reject
        runner.deliver(prepared, from: source, tag: refused.deliveryTag)
    }

    /// Brokers mark what they deliver of a stream, but publishers can write that mark too: it is found out, and nothing but
    /// acknowledgements is sent before.
    private func probe(_ source: UInt64) {
        runner.determined(source, .undetermined)
        // Nobody waits for it: until it has ended nothing is rejected, and its operation has a timeout.
        Task.detached { [self] in
            let isStream = await isStream()
            state.withLock { state in
                state.declaredType = isStream ? .stream : .classic
                if !isStream { state.offsets = nil }
            }
            runner.determined(source, isStream ? .stream : .queue)
        }
    }

    // MARK: Settling

    func settle(_ tag: UInt64, _ settlement: Settlement) {
        let offset = state.withLock { state -> Int64? in
            guard !state.isOver else { return nil }
            switch settlement {
            case .acknowledge: channel.acknowledge(tag)
            case .reject: channel.reject(tag, requeue: false)
            case .requeue: channel.reject(tag, requeue: true)
            case .giveBack: channel.giveBack(tag)
            }
            state.unsettled.settled(tag)
            return state.offsets?.settled(tag)
        }
        if let offset { onOffset(offset) }
    }

    func acknowledge(_ tags: [UInt64]) {
        let offset = state.withLock { state -> Int64? in
            guard !state.isOver else { return nil }
            for acknowledgement in state.unsettled.acknowledged(tags) {
                channel.acknowledge(acknowledgement.tag, multiple: acknowledgement.multiple)
            }
            return tags.reduce(nil) { state.offsets?.settled($1) ?? $0 }
        }
        if let offset { onOffset(offset) }
    }

    // MARK: Ending

    /// Cancels the consumer that was started last. When that fails, the channel is over, or about to be closed for it.
    func cancel(timeout: Duration) async {
        if let tag { try? await channel.cancel(tag, timeout: timeout) }
    }

    /// Cancels this consumer, and none that was started meanwhile, so that it is started anew with what has changed.
    func reconfigure(_ consuming: Consuming) async {
        try? await channel.cancel(consuming.tag, timeout: .seconds(10))
        consuming.interruption.set(.reconfigured)
    }

    /// Nothing goes to the channel any more; what is being handled is cancelled.
    ///
    /// - Returns: The tags of those whose handling had begun.
    @discardableResult
    func end() -> [UInt64] {
        let source = state.withLock { state in
            state.isOver = true
            return state.source
        }
        return runner.close(source)
    }
}
