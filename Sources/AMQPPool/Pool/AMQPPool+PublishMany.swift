internal import ConcurrencyPrimitives
import Tracing

extension AMQPPool {
    /// Publishes messages in this order, written in one go, and waits for the outcome of each. It costs a fraction of publishing them one
    /// by one.
    ///
    ///     let results = await pool.publish(contentsOf: orders.map { OutgoingMessage($0, routingKey: "orders", mandatory: true) })
    ///     for (order, result) in zip(orders, results) {
    ///         if case .failure(let error) = result { print(order, error) }
    ///     }
    ///
    /// All are published on one channel while it lives. Messages that were not written before it was lost are published on another one,
    /// within the timeout; written messages are never sent again. A message to an exchange that has not accepted one yet is published first
    /// on a separate channel, as by ``publish(_:properties:exchange:routingKey:mandatory:timeout:)``, and the messages after it wait for
    /// that.
    ///
    /// - Parameters:
    ///   - messages: The messages. All of them are retained until the last has its outcome.
    ///   - timeout: The time limit for all of them together; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Returns: The outcome of each message, at its index: success when the broker has confirmed it, otherwise an error like those thrown
    ///   by ``publish(_:properties:exchange:routingKey:mandatory:timeout:)``. A failed message does not affect the others.
    public func publish(
        contentsOf messages: [OutgoingMessage],
        timeout: Duration? = nil
    ) async -> [Result<Void, AMQPError>] {
        guard metrics != nil || instruments != nil else { return await publishUnobserved(messages, timeout) }
        let begun = metrics?.began(messages.count)
        var messages = messages
        var spans: [any Span] = []
        if let instruments {
            for index in messages.indices { spans.append(instruments.beginPublishing(&messages[index])) }
        }
        let results = await publishUnobserved(messages, timeout)
        for (span, result) in zip(spans, results) {
            if case .failure(let error) = result { span.fail(error.publishOutcome) }
            span.end()
        }
        if let metrics, let begun {
            for (message, result) in zip(messages, results) {
                metrics.ended(to: message.destination, since: begun, result)
            }
        }
        return results
    }

    private func publishUnobserved(
        _ messages: [OutgoingMessage],
        _ timeout: Duration?
    ) async -> [Result<Void, AMQPError>] {
        let timeout = (timeout ?? operationTimeout).bounded
        let deadline = ContinuousClock.now + timeout
        var results = [Result<Void, AMQPError>](repeating: .success(()), count: messages.count)
        var left = Array(messages.indices)
        while !left.isEmpty {
            let together = left.prefix { publishScreen.shares(messages[$0]) }
            if together.isEmpty {
                let index = left.removeFirst()
                results[index] = await result(of: messages[index], before: deadline, timeout)
                // Similar messages would be refused one after another, each after a delay.
                guard case .failure(let error) = results[index], case .refused = error,
                    let ground = error.refusalGround(of: messages[index])
                else { continue }
                left.removeAll { other in
                    guard ground.matches(messages[other]) else { return false }
                    results[other] = .failure(.notSent(error.of(messages[other])))
                    return true
                }
                continue
            }
            let outcomes = await publish(together.map { messages[$0] }, before: deadline)
            left.removeFirst(together.count)
            var again: [Int] = []
            for (index, outcome) in zip(together, outcomes) {
                results[index] = outcome
                guard case .failure(let error) = outcome else { continue }
                publishScreen.failed(messages[index], error)
                // A lost channel accepts nothing more, so the registry does not return it again.
                if case .notSent(let cause) = error, cause.isEndOfChannel, ContinuousClock.now < deadline {
                    again.append(index)
                }
            }
            left = again + left
        }
        return results
    }

    private func publish(
        _ messages: [OutgoingMessage],
        before deadline: ContinuousClock.Instant
    ) async -> [Result<Void, AMQPError>] {
        do throws(AMQPError) {
            let channel = try await channel(before: deadline)
            return await channel.publishUnmeasured(messages, timeout: ContinuousClock.now.duration(to: deadline))
        } catch {
            return messages.map { _ in .failure(error) }
        }
    }

    private func result(
        of message: OutgoingMessage,
        before deadline: ContinuousClock.Instant,
        _ timeout: Duration
    ) async -> Result<Void, AMQPError> {
        do throws(AMQPError) {
            return .success(try await publish(message, before: deadline, timeout))
        } catch {
            return .failure(error)
        }
    }
}
