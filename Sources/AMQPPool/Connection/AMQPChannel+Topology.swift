import Synchronization

/// Declaring what messages go through. Every method throws the ``AMQPError`` that closed the channel
/// (``AMQPError/channelClosedByBroker(code:text:)`` with 404, 405, 406, 403) or why there was no answer.
extension AMQPChannel {
    /// Declares an exchange; if it exists with other settings, the broker closes the channel (406).
    ///
    /// - Parameters:
    ///   - name: its name.
    ///   - type: how it routes.
    ///   - passive: only checks that it exists (404 if not); needs no right to configure.
    ///   - durable: survives a restart of the broker.
    ///   - autoDelete: deleted when its last binding goes.
    ///   - isInternal: takes messages from other exchanges only.
    ///   - arguments: the broker's extensions.
    ///   - timeout: nil is ``ConnectionConfiguration/operationTimeout``.
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

    /// Declares a queue and tells what it holds; if it exists with other settings, the broker closes the channel (406).
    ///
    /// - Parameters:
    ///   - name: empty lets the broker choose; the status has its choice.
    ///   - passive: only checks that it exists (404 if not); needs no right to configure.
    ///   - durable: survives a restart of the broker. RabbitMQ 4.3 closes the *connection* (541) of whoever declares a queue
    ///     that is neither durable nor exclusive, unless its configuration permits such queues.
    ///   - exclusive: for this connection only, and deleted with it; such a queue may be transient on every version.
    ///   - autoDelete: deleted when its last consumer goes.
    ///   - arguments: the broker's extensions.
    ///   - timeout: nil is ``ConnectionConfiguration/operationTimeout``. It begins when no other declaration of the same queue runs in this
    ///     process, for which at most five seconds are waited: RabbitMQ closes the connection (541) of one of two that create a
    ///     quorum queue at the same moment.
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

    /// Deletes a queue and returns how many messages went with it.
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

    /// Drops all messages of a queue that are ready, and returns how many.
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

    /// Puts the channel into confirm mode: from now on the broker confirms each message.
    public func selectConfirms(timeout: Duration? = nil) async throws(AMQPError) {
        guard !isConfirming else { return }
        _ = try await operation(.confirmSelect, timeout: timeout)
    }
}
