/// Declares and binds with typed arguments. Invalid arguments throw ``AMQPError/invalidArgument(_:)`` before anything is sent, because the
/// broker would close the channel.
extension AMQPChannel {
    /// Declares a queue and returns its status. If it exists with other settings, the broker closes the channel (406).
    ///
    /// The queue is durable by default: RabbitMQ 4.3 and later refuse a queue that is neither durable nor exclusive.
    ///
    /// - Parameters:
    ///   - name: The queue's name; empty lets the broker choose one, which is in the status.
    ///   - durable: Whether it survives a restart of the broker. Quorum queues and streams always do.
    ///   - exclusive: Whether only this connection can use it, and it is deleted with the connection. Classic queues only.
    ///   - autoDelete: Whether it is deleted with its last consumer. Classic queues only.
    ///   - arguments: Extensions of the broker.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``.
    @discardableResult
    public func declareQueue(
        _ name: String,
        durable: Bool = true,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        arguments: QueueArguments,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> QueueStatus {
        let table = try arguments.fieldTable()
        if let type = arguments.type, !type.isClassic, !durable || exclusive || autoDelete {
            throw .invalidArgument("a \(type.rawValue) queue is durable, not exclusive, and not deleted automatically")
        }
        return try await declareQueue(
            name,
            durable: durable,
            exclusive: exclusive,
            autoDelete: autoDelete,
            arguments: table,
            timeout: timeout
        )
    }

    /// Declares an exchange. If it exists with other settings, the broker closes the channel (406).
    public func declareExchange(
        _ name: String,
        type: ExchangeType = .direct,
        durable: Bool = true,
        autoDelete: Bool = false,
        internal isInternal: Bool = false,
        arguments: ExchangeArguments,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        try await declareExchange(
            name,
            type: type,
            durable: durable,
            autoDelete: autoDelete,
            internal: isInternal,
            arguments: try arguments.fieldTable(),
            timeout: timeout
        )
    }

    /// Routes messages that match the headers from a headers exchange to a queue.
    public func bindQueue(
        _ queue: String,
        to exchange: String,
        matching headers: HeadersMatch,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        try await bindQueue(queue, to: exchange, arguments: try headers.fieldTable(), timeout: timeout)
    }

    /// Removes a binding that was created with these headers.
    public func unbindQueue(
        _ queue: String,
        from exchange: String,
        matching headers: HeadersMatch,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        try await unbindQueue(queue, from: exchange, arguments: try headers.fieldTable(), timeout: timeout)
    }

    /// Routes messages that match the headers from a headers exchange to another exchange.
    public func bindExchange(
        _ destination: String,
        to source: String,
        matching headers: HeadersMatch,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        try await bindExchange(destination, to: source, arguments: try headers.fieldTable(), timeout: timeout)
    }

    /// Starts a consumer with typed arguments; see
    /// ``consume(queue:tag:noAck:exclusive:arguments:timeout:onDelivery:onCancel:)-(_,_,_,_,FieldTable,_,_,_)``.
    @discardableResult
    public func consume(
        queue: String,
        tag: String? = nil,
        noAck: Bool = false,
        exclusive: Bool = false,
        arguments: ConsumerArguments,
        timeout: Duration? = nil,
        onDelivery: @escaping @Sendable (Delivery) -> Void,
        onCancel: @escaping @Sendable () -> Void = {}
    ) async throws(AMQPError) -> String {
        try await consume(
            queue: queue,
            tag: tag,
            noAck: noAck,
            exclusive: exclusive,
            arguments: try arguments.fieldTable(),
            timeout: timeout,
            onDelivery: onDelivery,
            onCancel: onCancel
        )
    }
}
