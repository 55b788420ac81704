internal import ConcurrencyPrimitives
import NIOCore
import Supervision
import Synchronization

/// One consumer incarnation on one channel: what was delivered on it and is not settled.
///
/// Once it is over, nothing reaches the channel through it any more: what it has not settled is the next one's.
final class ConsumerSession: Sendable {
    enum Settlement {
        case acknowledge
        case reject
        case requeue
    }

    /// Why the broker delivers nothing more.
    enum Interruption: Sendable {
        case cancelledByBroker
        case channelEnded(AMQPError)
    }

    private enum Work {
        /// Waiting for a handler, or in the hands of one who settles it himself.
        case delivered
        case handled(Task<Void, any Error>)
        /// Failed, and due for another attempt after a while.
        case delayed
    }

    private struct State {
        var unsettled: [UInt64: Work] = [:]
        var tag: String?
        var isStopping = false
        var isOver = false
    }

    let channel: AMQPChannel
    private let queue: DeliveryQueue
    private let state = Mutex(State())
    private let idle = OneShot<Bool>()

    init(on channel: AMQPChannel, into queue: DeliveryQueue) {
        self.channel = channel
        self.queue = queue
        channel.onClosed { [weak self] _ in self?.end() }
    }

    /// The consumer at the broker.
    var tag: String? { state.withLock { $0.tag } }

    // MARK: Consuming

    /// Starts the consumer, and returns what tells when it has ended.
    func consume(
        _ name: String,
        exclusive: Bool,
        arguments: FieldTable
    ) async throws(AMQPError) -> OneShot<Interruption> {
        let interruption = OneShot<Interruption>()
        // Known before it is sent, so that it can be cancelled whatever happens meanwhile.
        let tag = "swift-consumer-\(UInt64.random(in: .min ... .max))"
        state.withLock { $0.tag = tag }
        _ = try await channel.consume(
            queue: name,
            tag: tag,
            exclusive: exclusive,
            arguments: arguments,
            onDelivery: { self.delivered($0) },
            onCancel: { interruption.set(.cancelledByBroker) }
        )
        channel.onClosed { [weak interruption] in interruption?.set(.channelEnded($0)) }
        return interruption
    }

    private func delivered(_ delivery: Delivery) {
        let isTaken = state.withLock { state in
            // What comes when it is over is requeued with all the rest.
            if state.isOver { return true }
            guard !state.isStopping else { return false }
            state.unsettled[delivery.deliveryTag] = .delivered
            return true
        }
        guard isTaken else { return channel.reject(delivery.deliveryTag, requeue: true) }
        queue.append(UnsettledDelivery(delivery: delivery, session: self))
    }

    // MARK: Handling

    /// Runs the handler of a delivery; nil when it is not ours any more. The task is cancelled when the session ends.
    func handle(
        _ delivery: Delivery,
        _ handler: @escaping @Sendable (Delivery) async throws -> Void
    ) -> Task<Void, any Error>? {
        state.withLock { state in
            guard case .delivered? = state.unsettled[delivery.deliveryTag] else { return nil }
            let task = Task { try await handler(delivery) }
            state.unsettled[delivery.deliveryTag] = .handled(task)
            return task
        }
    }

    /// Tells the broker. The first settlement of a delivery counts.
    func settle(_ tag: UInt64, _ settlement: Settlement) {
        // Under the lock: when the session is over, nothing of it comes behind.
        let isIdle = state.withLock { state in
            guard state.unsettled.removeValue(forKey: tag) != nil else { return false }
            send(tag, settlement)
            return state.isStopping && state.unsettled.isEmpty
        }
        if isIdle { idle.set(true) }
    }

    /// Settles a delivery that failed: after `delay`, if it is to be tried again.
    func settle(_ delivery: Delivery, _ decision: FailureDecision, from queue: String, after delay: Duration) {
        let tag = delivery.deliveryTag
        switch decision {
        case .acknowledge: settle(tag, .acknowledge)
        case .reject: settle(tag, .reject)
        case .requeue: postpone(tag, by: delay) { $0.settle(tag, .requeue) }
        case .publishAgain(let attempt):
            postpone(tag, by: delay) { $0.publishAgain(delivery, to: queue, attempt: attempt) }
        }
    }

    private func postpone(_ tag: UInt64, by delay: Duration, _ action: @escaping @Sendable (ConsumerSession) -> Void) {
        let isPostponed = state.withLock { state in
            guard state.unsettled[tag] != nil, !state.isStopping else { return false }
            state.unsettled[tag] = .delayed
            return true
        }
        guard isPostponed else { return settle(tag, .requeue) }
        _ = SystemSupervisionClock.shared.schedule(after: delay) { [weak self] in
            if let self { action(self) }
        }
    }

    private func publishAgain(_ delivery: Delivery, to queue: String, attempt: Int) {
        let tag = delivery.deliveryTag
        var properties = delivery.properties
        properties.headers[DeliveryFailurePolicy.attemptsHeader] = .int64(Int64(attempt))
        properties.userID = nil
        channel.submit(
            Publish(
                exchange: "",
                routingKey: queue,
                mandatory: true,
                properties: properties,
                body: delivery.body,
                isWanted: { self.isUnsettled(tag) },
                outcome: { outcome in
                    if case .confirmed = outcome { self.settle(tag, .acknowledge) } else { self.settle(tag, .requeue) }
                }
            )
        )
    }

    private func isUnsettled(_ tag: UInt64) -> Bool {
        state.withLock { $0.unsettled[tag] != nil }
    }

    private func send(_ tag: UInt64, _ settlement: Settlement) {
        switch settlement {
        case .acknowledge: channel.acknowledge(tag)
        case .reject: channel.reject(tag, requeue: false)
        case .requeue: channel.reject(tag, requeue: true)
        }
    }

    // MARK: Ending

    /// Takes nothing more on, gives back what was not begun, and waits until the rest is settled.
    ///
    /// - Returns: whether it was, before the deadline.
    func drain(before deadline: ContinuousClock.Instant) async -> Bool {
        let tag = state.withLock { state in
            state.isStopping = true
            return state.tag
        }
        let timer = SystemSupervisionClock.shared.schedule(after: ContinuousClock.now.duration(to: deadline)) {
            self.idle.set(false)
        }
        defer { timer.cancel() }
        // When this fails, the channel is over, or about to be closed for it.
        if let tag { try? await channel.cancel(tag, timeout: ContinuousClock.now.duration(to: deadline)) }
        for delivery in queue.removeAll(of: self) { delivery.reject(requeue: true) }
        let (delayed, isIdle) = state.withLock { state in
            let delayed = state.unsettled.compactMap { tag, work in
                if case .delayed = work { tag } else { nil }
            }
            return (delayed, state.unsettled.isEmpty)
        }
        if isIdle { idle.set(true) }
        for tag in delayed { settle(tag, .requeue) }
        return await idle.wait() ?? false
    }

    /// Nothing goes to the channel any more; what is being handled is cancelled.
    func end() {
        let work = state.withLock { state in
            state.isOver = true
            defer { state.unsettled = [:] }
            return state.unsettled.values
        }
        queue.removeAll(of: self)
        for case .handled(let task) in work { task.cancel() }
        idle.set(false)
    }
}
