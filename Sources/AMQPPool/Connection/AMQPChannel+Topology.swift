import Synchronization

/// Declares and binds exchanges and queues. Every method throws the ``AMQPError`` that closed the channel
/// (``AMQPError/channelClosedByBroker(code:text:)`` with 404, 405, 406, 403) or says why there was no answer.
extension AMQPChannel {
    /// Declares an exchange. If it exists with other settings, the broker closes the channel (406).
    ///
    /// - Parameters:
    ///   - name: The exchange's name.
    ///   - type: How it routes messages.
    ///   - passive: Only checks that it exists (404 if not); needs no permission to configure.
    ///   - durable: Whether it survives a restart of the broker.
    ///   - autoDelete: Whether it is deleted with its last binding.
    ///   - isInternal: Whether it accepts messages from other exchanges only.
    ///   - arguments: Extensions of the broker.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``.
    public func declareExchange(
        _ name: String,
        type: ExchangeType = .direct,
        passive: Bool = false,
        durable: Bool = true,
        autoDelete: Bool = false,
        internal isInternal: Bool = false,
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let request = ExchangeDeclare(
            exchange: name,
            type: type.name,
            passive: passive,
            durable: durable,
            autoDelete: autoDelete,
            isInternal: isInternal,
            arguments: arguments
        )
        _ = try await operation(.exchangeDeclare(request), timeout: timeout)
    }

    /// Deletes an exchange.
    public func deleteExchange(
        _ name: String,
        ifUnused: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        _ = try await operation(.exchangeDelete(exchange: name, ifUnused: ifUnused), timeout: timeout)
    }

    /// Routes messages from one exchange to another.
    public func bindExchange(
        _ destination: String,
        to source: String,
        routingKey: String = "",
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        _ = try await operation(
            .exchangeBind(destination: destination, source: source, routingKey: routingKey, arguments: arguments),
            timeout: timeout
        )
    }

    /// Removes a binding between exchanges.
    public func unbindExchange(
        _ destination: String,
        from source: String,
        routingKey: String = "",
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        _ = try await operation(
            .exchangeUnbind(destination: destination, source: source, routingKey: routingKey, arguments: arguments),
            timeout: timeout
        )
    }

    /// Declares a queue and returns its status. If it exists with other settings, the broker closes the channel (406).
    ///
    /// - Parameters:
    ///   - name: The queue's name; empty lets the broker choose one, which is in the status.
    ///   - passive: Only checks that it exists (404 if not); needs no permission to configure.
    ///   - durable: Whether it survives a restart of the broker. RabbitMQ 4.3 closes the *connection* (541) when a queue is declared that
    ///     is neither durable nor exclusive, unless its configuration permits such queues.
    ///   - exclusive: Whether only this connection can use it, and it is deleted with the connection; such a queue may be transient on
    ///     every version.
    ///   - autoDelete: Whether it is deleted with its last consumer.
    ///   - arguments: Extensions of the broker.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``. It begins when no other declaration of the same
    ///     queue is running in this process, which is awaited for at most five seconds: RabbitMQ closes the connection (541) of one of two
    ///     clients that create a quorum queue at the same moment.
    @discardableResult
    public func declareQueue(
        _ name: String,
        passive: Bool = false,
        durable: Bool = true,
        exclusive: Bool = false,
        autoDelete: Bool = false,
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws(AMQPError) -> QueueStatus {
        let request = QueueDeclare(
            queue: name,
            passive: passive,
            durable: durable,
            exclusive: exclusive,
            autoDelete: autoDelete,
            arguments: arguments
        )
        let reply =
            if passive || exclusive || name.isEmpty {
                try await operation(.queueDeclare(request), timeout: timeout)
            } else {
                try await QueueDeclarations.inTurn(name, virtualHost: connection.endpoint.virtualHost) {
                    () async throws(AMQPError) in
                    try await operation(.queueDeclare(request), timeout: timeout)
                }
            }
        guard case .method(.queueDeclareOK(let queue, let messages, let consumers)) = reply else {
            throw .protocolViolation("queue.declare was answered by something else")
        }
        if !passive, case .string(let name)? = arguments["x-queue-type"],
            let type = QueueArguments.QueueType(rawValue: name)
        {
            declaredTypes.withLock { $0[queue] = type }
        }
        return QueueStatus(name: queue, messageCount: Int(messages), consumerCount: Int(consumers))
    }

    /// Deletes a queue and returns the number of messages deleted with it.
    @discardableResult
    public func deleteQueue(
        _ name: String,
        ifUnused: Bool = false,
        ifEmpty: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) -> Int {
        let request = Method.queueDelete(queue: name, ifUnused: ifUnused, ifEmpty: ifEmpty)
        guard case .method(.queueDeleteOK(let count)) = try await operation(request, timeout: timeout) else { return 0 }
        return Int(count)
    }

    /// Drops all ready messages of a queue, and returns their number.
    @discardableResult
    public func purgeQueue(_ name: String, timeout: Duration? = nil) async throws(AMQPError) -> Int {
        let reply = try await operation(.queuePurge(queue: name), timeout: timeout)
        guard case .method(.queuePurgeOK(let count)) = reply else { return 0 }
        return Int(count)
    }

    /// Routes messages from an exchange to a queue.
    public func bindQueue(
        _ queue: String,
        to exchange: String,
        routingKey: String = "",
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        _ = try await operation(
            .queueBind(queue: queue, exchange: exchange, routingKey: routingKey, arguments: arguments),
            timeout: timeout
        )
    }

    /// Removes a binding of a queue.
    public func unbindQueue(
        _ queue: String,
        from exchange: String,
        routingKey: String = "",
        arguments: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        _ = try await operation(
            .queueUnbind(queue: queue, exchange: exchange, routingKey: routingKey, arguments: arguments),
            timeout: timeout
        )
    }

    /// Puts the channel into confirm mode: the broker confirms each message from now on.
    public func selectConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        guard !isConfirming else { return }
        _ = try await operation(.confirmSelect, timeout: timeout)
    }
}
