extension AMQPChannel {
    /// Starts a consumer and returns its tag.
    ///
    /// Both callbacks run on the event loop and must not block; the first delivery may come before this returns. After
    /// `onCancel` nothing is delivered. Neither is called for the end of the channel: see ``waitUntilClosed()``.
    ///
    /// - Parameters:
    ///   - queue: the queue to consume.
    ///   - tag: the consumer's name on this channel; nil makes one up.
    ///   - noAck: whether a delivery counts as acknowledged as soon as it is sent; the prefetch does not limit it then.
    ///   - exclusive: whether nobody else may consume the queue.
    ///   - arguments: the broker's extensions, such as `x-priority`.
    ///   - timeout: nil is ``ConnectionConfiguration/operationTimeout``.
    ///   - onDelivery: called for each delivery, in order.
    ///   - onCancel: called when the broker cancels the consumer: the queue was deleted, or its node failed.
    /// A message that cannot be handed on (``ConnectionConfiguration/maximumIncomingMessageSize``; headers nested more than 16
    /// levels deep) is rejected without requeue, counted (``refusedDeliveries``) and logged with the queue.
    ///
    /// - Throws: the ``AMQPError`` that closed the channel (404: no such queue; 403: it is consumed exclusively), or why there
    ///   was no answer. A consumer that starts after its caller has given up is cancelled, and its deliveries go back.
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

    /// Starts a consumer that settles also what cannot be handed on.
    ///
    /// - Parameter onRefused: called on the event loop for each such delivery, in order with the others; it must be settled. Nil
    ///   rejects them.
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

    /// Ends a consumer. Deliveries already on their way still come until this returns.
    public func cancel(_ tag: String, timeout: Duration? = nil) async throws(AMQPError) {
        let request = Method.basicCancel(consumerTag: tag, noWait: false)
        _ = try await operation(request, timeout: timeout) { machine, id, actions in
            machine.cancelConsumer(id, tag: tag, &actions)
        }
    }

    /// Fetches one message, or nil when the queue has none. Consuming is far cheaper.
    public func get(
        queue: String,
        noAck: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> Delivery? {
        let reply = try await operation(.basicGet(queue: queue, noAck: noAck), timeout: timeout)
        guard case .message(let delivery, _) = reply else { return nil }
        return delivery
    }

    /// Limits how many deliveries each consumer started from now on may have unacknowledged. 0 is no limit.
    public func setPrefetch(_ count: UInt16, timeout: Duration? = nil) async throws(AMQPError) {
        _ = try await operation(
            .basicQos(prefetchSize: 0, prefetchCount: count, global: false),
            timeout: timeout
        )
        prefetch = count
    }

    /// Puts everything that was delivered on this channel and is not acknowledged back into its queues, for anybody
    /// (`basic.recover` with requeue; RabbitMQ supports no other).
    public func recover(timeout: Duration? = nil) async throws(AMQPError) {
        // Acknowledgements that wait would come behind it, for deliveries which are none of this channel's any more.
        drain(isLast: true)
        _ = try await operation(.basicRecover(requeue: true), timeout: timeout)
    }

    private func makeConsumerTag() -> String {
        "swift-\(number)-\(UInt64.random(in: .min ... .max))"
    }
}
