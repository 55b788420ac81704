extension AMQPChannel {
    /// Starts a consumer and returns its tag.
    ///
    /// Both callbacks run on the event loop and must not block; the first delivery may arrive before this method returns. After `onCancel`
    /// nothing is delivered. Neither is called when the channel ends: see ``waitUntilClosed()``.
    ///
    /// - Parameters:
    ///   - queue: The queue to consume.
    ///   - tag: The consumer's name on this channel; `nil` generates one.
    ///   - noAck: Whether a delivery counts as acknowledged as soon as it is sent; the prefetch does not limit such deliveries.
    ///   - exclusive: Whether nobody else may consume the queue.
    ///   - arguments: Extensions of the broker, for example `x-priority`.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``.
    ///   - onDelivery: Called for each delivery, in order.
    ///   - onCancel: Called when the broker cancels the consumer, because the queue was deleted or its node failed. A message that cannot
    ///     be accepted (``ConnectionConfiguration/maximumIncomingMessageSize``; headers nested more than 16 levels deep) is rejected
    ///     without requeue, counted (``refusedDeliveries``) and logged with the queue.
    ///
    /// - Throws: The ``AMQPError`` that closed the channel (404: the queue does not exist; 403: it is consumed exclusively), or why there
    ///   was no answer. If the consumer starts after the caller has given up, it is cancelled and its deliveries are requeued.
    @discardableResult
    public func consume(
        queue: String,
        tag: String? = nil,
        noAck: Bool = false,
        exclusive: Bool = false,
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil,
        onDelivery: @escaping @Sendable (Delivery) -> Void,
        onCancel: @escaping @Sendable () -> Void = {}
    ) async throws(AMQPError) -> String {
        try await consume(
            queue: queue,
            tag: tag,
            noAck: noAck,
            exclusive: exclusive,
            arguments: arguments,
            timeout: timeout,
            onRefused: nil,
            onDelivery: onDelivery,
            onCancel: onCancel
        )
    }

    /// Starts a consumer that also settles deliveries that cannot be accepted.
    ///
    /// - Parameter onRefused: Called on the event loop for each such delivery, in order with the others; it has to settle the delivery.
    ///   `nil` rejects them.
    package func consume(
        queue: String,
        tag: String? = nil,
        noAck: Bool = false,
        exclusive: Bool = false,
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil,
        onRefused: (@Sendable (RefusedDelivery) -> Void)?,
        onDelivery: @escaping @Sendable (Delivery) -> Void,
        onCancel: @escaping @Sendable () -> Void = {}
    ) async throws(AMQPError) -> String {
        let tag = tag ?? makeConsumerTag()
        let request = BasicConsume(
            queue: queue,
            consumerTag: tag,
            noAck: noAck,
            exclusive: exclusive,
            arguments: arguments
        )
        let consumer = ChannelConsumer(
            queue: queue,
            noAck: noAck,
            isOfStream: arguments["x-stream-offset"] != nil,
            onDelivery: onDelivery,
            onCancel: onCancel,
            onRefused: onRefused
        )
        _ = try await operation(.basicConsume(request), timeout: timeout) { machine, id, actions in
            machine.consume(id, request, consumer, &actions)
        }
        return tag
    }

    /// Cancels a consumer. Deliveries already sent by the broker still arrive until this returns.
    public func cancel(_ tag: String, timeout: Duration? = nil) async throws(AMQPError) {
        let request = Method.basicCancel(consumerTag: tag, noWait: false)
        _ = try await operation(request, timeout: timeout) { machine, id, actions in
            machine.cancelConsumer(id, tag: tag, &actions)
        }
    }

    /// Fetches one message; `nil` when the queue is empty. Consuming is far cheaper.
    public func get(
        queue: String,
        noAck: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> Delivery? {
        let reply = try await operation(.basicGet(queue: queue, noAck: noAck), timeout: timeout)
        guard case .message(let delivery, _) = reply else { return nil }
        return delivery
    }

    /// Limits the number of unacknowledged deliveries of each consumer started from now on. 0 means no limit.
    public func setPrefetch(_ count: UInt16, timeout: Duration? = nil) async throws(AMQPError) {
        _ = try await operation(
            .basicQos(prefetchSize: 0, prefetchCount: count, global: false),
            timeout: timeout
        )
        prefetch = count
    }

    /// Requeues everything that was delivered on this channel and is not acknowledged, for any consumer (`basic.recover` with requeue, the
    /// only form that RabbitMQ supports).
    public func recover(timeout: Duration? = nil) async throws(AMQPError) {
        // Waiting acknowledgements must not follow it: their deliveries would no longer belong to this channel.
        drain(isLast: true)
        _ = try await operation(.basicRecover(requeue: true), timeout: timeout)
    }

    private func makeConsumerTag() -> String {
        "swift-\(number)-\(UInt64.random(in: .min ... .max))"
    }
}
