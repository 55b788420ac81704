internal import ConcurrencyPrimitives
import NIOCore
import Supervision
import Synchronization

/// What a consumer decides about a delivery on its arrival.
package struct PreparedDelivery: Sendable {
    var message: any DeliveredMessage
    /// Messages of one partition are handled one after another, or in separate batches.
    package var partition: Int?
    /// The number of the attempt.
    package var attempt = 1
    /// The decision about a delivery that is not handled.
    package var disposition: Disposition?

    package init(_ message: any DeliveredMessage) {
        self.message = message
    }
}

/// One consumer on one channel: passes deliveries to the runner, and settlements back.
///
/// When it has ended, nothing reaches the channel through it: its unsettled deliveries belong to the next session.
final class ConsumerSession: DeliverySource {
    /// Why the broker stopped delivering.
    enum Interruption: Sendable {
        case cancelledByBroker
        case channelEnded(AMQPError)
        /// The consumer's settings have changed.
        case reconfigured
    }

    /// One consumer on the broker.
    struct Consuming: Sendable {
        let tag: String
        let interruption: OneShot<Interruption>
    }

    private struct State {
        var source: UInt64 = 0
        var tag: String?
        /// The declared type of the queue; `nil` if unknown.
        var declaredType: QueueArguments.QueueType?
        var isProbing = false
        var offsets: StreamOffsets?
        /// Nothing is sent to the channel any more.
        var isOver = false
    }

    let channel: AMQPChannel
    private let runner: DeliveryRunner
    private let prepare: @Sendable (Delivery, QueueArguments.QueueType?) -> PreparedDelivery
    /// Determines whether the queue is a stream.
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

    /// The consumer's tag on the broker.
    var tag: String? { state.withLock { $0.tag } }

    var source: UInt64 { state.withLock { $0.source } }

    /// The offset after the last message of a stream that arrived here and is handled here, whichever consumer received it.
    var nextOffset: Int64? { state.withLock { $0.offsets?.afterLast } }

    /// Whether the broker might close the connection for anything but an acknowledgement.
    var mayBeStream: Bool { runner.kind(of: source) != .queue }

    // MARK: Consuming

    /// Starts a consumer, and returns the handle that tells when it has ended.
    func consume(
        _ name: String,
        type: QueueArguments.QueueType?,
        exclusive: Bool,
        arguments: FieldTable
    ) async throws(AMQPError) -> Consuming {
        let interruption = OneShot<Interruption>()
        // Chosen before the request is sent, so that the consumer can be cancelled whatever happens.
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
            return (state.source, state.declaredType, mustProbe)
        }
        if mustProbe { probe(source) }
        runner.deliver(prepare(delivery, type), from: source, tag: delivery.deliveryTag)
    }

    /// Handles a delivery that cannot be accepted: it is rejected if the queue supports that.
    private func refused(_ refused: RefusedDelivery) {
        let (source, type, mustProbe) = state.withLock { state in
            let mustProbe = state.declaredType == nil && !state.isProbing
            if mustProbe { state.isProbing = true }
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

    /// Brokers mark deliveries of a stream, but publishers can forge the mark: the type is determined, and until then only acknowledgements
    /// are sent.
    private func probe(_ source: UInt64) {
        runner.determined(source, .undetermined)
        // Not awaited: until it has ended nothing is rejected, and its operation has a timeout.
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
            return state.offsets?.settled(tag)
        }
        if let offset { onOffset(offset) }
    }

    func acknowledge(_ tags: [UInt64]) {
        let offset = state.withLock { state -> Int64? in
            guard !state.isOver else { return nil }
            channel.acknowledge(tags)
            return tags.reduce(nil) { state.offsets?.settled($1) ?? $0 }
        }
        if let offset { onOffset(offset) }
    }

    // MARK: Ending

    /// Cancels the consumer that was started last. If that fails, the channel is closed or about to be closed.
    func cancel(timeout: Duration) async {
        if let tag { try? await channel.cancel(tag, timeout: timeout) }
    }

    /// Cancels this consumer, unless another one was started in the meantime, so that it is started again with the new settings.
    func reconfigure(_ consuming: Consuming) async {
        try? await channel.cancel(consuming.tag, timeout: .seconds(10))
        consuming.interruption.set(.reconfigured)
    }

    /// Sends nothing more to the channel, and cancels running handlers.
    ///
    /// - Returns: The tags of the deliveries whose handling had begun.
    @discardableResult
    func end() -> [UInt64] {
        let source = state.withLock { state in
            state.isOver = true
            return state.source
        }
        return runner.close(source)
    }
}
