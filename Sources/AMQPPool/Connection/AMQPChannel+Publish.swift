internal import ConcurrencyPrimitives
public import NIOCore

/// A message whose publisher waits for its outcome.
struct PendingPublish {
    var continuation: CheckedContinuation<Result<Void, AMQPError>, Never>
    var deadline: Scheduled<Void>
    var exchange: String
    var routingKey: String
    var isWritten = false
    /// When it was written, if that is measured.
    var written: ContinuousClock.Instant?
}

extension AMQPChannel {
    /// Publishes a message and waits until the broker has confirmed it. The first call puts the channel into confirm mode.
    ///
    /// A blocked or stuck connection delays the message until the timeout at most. The channel accepts at most
    /// ``ConnectionConfiguration/maximumOutboxEntries`` and ``ConnectionConfiguration/maximumOutboxBytes`` of unwritten messages; further
    /// messages wait for room in order of arrival, also until the timeout at most.
    ///
    /// - Parameters:
    ///   - body: The message; at most ``ConnectionConfiguration/maximumMessageSize`` bytes.
    ///   - properties: Its properties.
    ///   - exchange: The exchange; empty for the default exchange, which routes by queue name.
    ///   - routingKey: The routing key.
    ///   - mandatory: Whether a message that cannot be routed to a queue is an error.
    ///   - timeout: The time limit; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Throws: ``AMQPError/returned(code:text:exchange:routingKey:)``, ``AMQPError/nacked``, or
    ///   ``AMQPError/refused(code:text:exchange:routingKey:)``, for which the broker closes the channel; ``AMQPError/notSent(_:)`` with the
    ///   cause when nothing was written, which is ``AMQPError/overloaded(_:)`` when there was no room in time;
    ///   ``AMQPError/unconfirmed(_:)`` with the cause when the message was written but it is unknown whether the broker took responsibility
    ///   for it.
    public func publish(
        _ body: ByteBuffer,
        properties: MessageProperties = MessageProperties(),
        exchange: String = "",
        routingKey: String,
        mandatory: Bool = false,
        timeout: Duration? = nil
    ) async throws(AMQPError) {
        let message = OutgoingMessage(
            body,
            properties: properties,
            exchange: exchange,
            routingKey: routingKey,
            mandatory: mandatory
        )
        guard let metrics = configuration.metrics else { return try await publishUnmeasured(message, timeout: timeout) }
        let begun = metrics.began()
        do throws(AMQPError) {
            try await publishUnmeasured(message, timeout: timeout)
            metrics.ended(to: message.destination, since: begun, nil)
        } catch {
            metrics.ended(to: message.destination, since: begun, error)
            throw error
        }
    }

    /// The same without metrics, for callers that measure it themselves.
    func publishUnmeasured(_ message: OutgoingMessage, timeout: Duration?) async throws(AMQPError) {
        if let problem = message.method.nameProblem { throw .notSent(.invalidArgument(problem)) }
        if !isConfirming { try await selectConfirms(timeout: timeout) }
        let timeout = (timeout ?? configuration.operationTimeout).bounded
        lastPublish += 1
        let id = lastPublish
        var waiting = Publish(
            exchange: message.exchange,
            routingKey: message.routingKey,
            mandatory: message.mandatory,
            properties: message.properties,
            body: message.body,
            isWanted: { self.assumeIsolated { $0.publishIsWanted(id) } },
            outcome: { outcome in self.assumeIsolated { $0.published(id, outcome) } }
        )
        waiting.tellsRefusals = true
        let publish = waiting
        let result = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let deadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
                    self.assumeIsolated { $0.abandonPublish(id, .timedOut(operation: "publish", after: timeout)) }
                }
                publishes[id] = PendingPublish(
                    continuation: continuation,
                    deadline: deadline,
                    exchange: message.exchange,
                    routingKey: message.routingKey
                )
                submitInTurn(publish, id)
            }
        } onCancel: {
            onEventLoop { $0.abandonPublish(id, .cancelled(operation: "publish")) }
        }
        try result.get()
    }

    private func submitInTurn(_ publish: Publish, _ id: UInt64) {
        switch waitingPublishes.isEmpty ? offer(publish) : .full {
        case .taken: break
        case .full: waitingPublishes.append(publish, id)
        case .refused(let outcome): published(id, outcome)
        }
    }

    /// Admits waiting messages when the outbox has room again.
    func admitWaitingPublishes() {
        while let publish = waitingPublishes.first {
            let offer = offer(publish)
            if case .full = offer { return }
            waitingPublishes.removeFirst()
            if case .refused(let outcome) = offer { publish.end(outcome) }
        }
    }

    private func publishIsWanted(_ id: UInt64) -> Bool {
        publishes[id]?.isWritten = true
        if configuration.metrics != nil { publishes[id]?.written = .now }
        return publishes[id] != nil
    }

    private func published(_ id: UInt64, _ outcome: PublishOutcome) {
        guard let pending = publishes.removeValue(forKey: id) else { return }
        pending.deadline.cancel()
        if let written = pending.written {
            switch outcome {
            case .confirmed, .nacked, .returned: configuration.metrics?.confirmed(since: written)
            case .presumedDelivered, .sent, .notWritten, .unknown, .refused: break
            }
        }
        let result = outcome.result(
            exchange: pending.exchange,
            routingKey: pending.routingKey,
            closedError: closedError ?? connection.closedError ?? .channelClosed
        )
        pending.continuation.resume(returning: result)
    }

    /// The publisher no longer waits. If the message is still in the outbox, it is not sent; if it was sent, its outcome is ignored.
    private func abandonPublish(_ id: UInt64, _ error: AMQPError) {
        guard let pending = publishes.removeValue(forKey: id) else { return }
        pending.deadline.cancel()
        let foundNoRoom = waitingPublishes.remove(id)
        if pending.isWritten {
            pending.continuation.resume(returning: .failure(.unconfirmed(error)))
        } else if case .timedOut = error, let reason = connection.blockedReason {
            pending.continuation.resume(returning: .failure(.notSent(.blocked(reason: reason))))
        } else if case .timedOut = error, foundNoRoom {
            pending.continuation.resume(returning: .failure(.notSent(.outboxIsFull)))
        } else {
            pending.continuation.resume(returning: .failure(.notSent(error)))
        }
    }

    /// Submits a message from any thread, without waiting. The event loop is woken once per batch, and writes everything submitted by then
    /// in one go. The outcome is delivered on the event loop, exactly once.
    package nonisolated func submit(_ publish: Publish) {
        switch offer(publish) {
        case .taken: break
        case .full: eventLoop.execute { publish.end(.notWritten(.outboxIsFull)) }
        case .refused(let outcome): eventLoop.execute { publish.end(outcome) }
        }
    }

    /// Submits as many messages as there is room for. Returns their number, including those whose outcome has already been delivered.
    func offer(_ publishes: [Publish]) -> Int {
        let (taken, admission) = outbox.append(publishes)
        switch admission {
        case .queued, .full: break
        case .wakeUp: onEventLoop { $0.drain() }
        case .closed(let error):
            for publish in publishes { publish.end(.notWritten(error)) }
            return publishes.count
        }
        return taken
    }

    private enum Offer {
        case taken
        case full
        /// The message already has its outcome.
        case refused(PublishOutcome)
    }

    private nonisolated func offer(_ publish: Publish) -> Offer {
        let (bytes, limit) = (publish.body.readableBytes, configuration.maximumMessageSize)
        guard bytes <= limit else { return .refused(.refused(.messageTooLarge(bytes: bytes, limit: limit))) }
        switch outbox.append(.publish(publish)) {
        case .queued: return .taken
        case .full: return .full
        case .closed(let error): return .refused(.notWritten(error))
        case .wakeUp:
            onEventLoop { $0.drain() }
            return .taken
        }
    }

    /// Acknowledges a delivery of this channel, from any thread, without waiting. Does nothing when the channel is closed: the broker has
    /// requeued the delivery by then.
    ///
    /// - Parameters:
    ///   - deliveryTag: The tag of the delivery.
    ///   - multiple: Whether to acknowledge all earlier deliveries of this channel too. Not for consumers that handle several deliveries
    ///     concurrently.
    public nonisolated func acknowledge(_ deliveryTag: UInt64, multiple: Bool = false) {
        if case .wakeUp = outbox.append(.acknowledge(deliveryTag: deliveryTag, multiple: multiple)) {
            onEventLoop { $0.drain() }
        }
    }

    /// Rejects a delivery of this channel, from any thread, without waiting. Does nothing when the channel is closed.
    ///
    /// Sends `basic.reject`, which a quorum queue counts towards its delivery limit on every version of RabbitMQ. The otherwise equivalent
    /// `basic.nack` is not counted since 4.3, so a message that is always returned with it would be redelivered forever.
    ///
    /// - Parameters:
    ///   - deliveryTag: The tag of the delivery.
    ///   - requeue: Whether the broker redelivers it; if not, it is dead-lettered or dropped.
    public nonisolated func reject(_ deliveryTag: UInt64, requeue: Bool) {
        if case .wakeUp = outbox.append(.reject(deliveryTag: deliveryTag, requeue: requeue)) {
            onEventLoop { $0.drain() }
        }
    }
}

extension AMQPChannel {
    /// Returns an untried delivery of this channel to the broker, from any thread, without waiting: `basic.nack`, which is not counted as a
    /// delivery since RabbitMQ 4.3.
    package nonisolated func giveBack(_ deliveryTag: UInt64) {
        if case .wakeUp = outbox.append(.giveBack(deliveryTag: deliveryTag)) { onEventLoop { $0.drain() } }
    }
}

extension AMQPError {
    static var outboxIsFull: AMQPError { .overloaded("messages waiting to be written on one channel") }
}

extension PublishOutcome {
    /// The result for its publisher.
    ///
    /// - Parameter closedError: Why the channel is closed, if it is.
    func result(
        exchange: String,
        routingKey: String,
        closedError: @autoclosure () -> AMQPError
    ) -> Result<Void, AMQPError> {
        switch self {
        case .confirmed: .success(())
        case .nacked: .failure(.nacked)
        case .returned(let code, let text):
            .failure(.returned(code: code, text: text, exchange: exchange, routingKey: routingKey))
        case .refused(.refused(let code, let text, let exchange, let routingKey)):
            .failure(.refused(code: code, text: text, exchange: exchange, routingKey: routingKey))
        case .notWritten(let error), .refused(let error): .failure(.notSent(error))
        case .unknown(let error): .failure(.unconfirmed(error))
        case .sent: .failure(.unconfirmed(.confirmsNotSelected))
        // Routed, but perhaps not on disk yet: a weaker guarantee than a confirm.
        case .presumedDelivered: .failure(.unconfirmed(closedError()))
        }
    }
}
