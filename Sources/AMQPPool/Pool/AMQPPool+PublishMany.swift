internal import ConcurrencyPrimitives
import Tracing

extension AMQPPool {
    /// Publishes messages in this order, written at once, and waits until the broker has told the outcome of each. It costs a fraction
    /// of publishing them one by one.
    ///
    ///     let results = await pool.publish(contentsOf: orders.map { OutgoingMessage($0, routingKey: "orders", mandatory: true) })
    ///     for (order, result) in zip(orders, results) {
    ///         if case .failure(let error) = result { print(order, error) }
    ///     }
    ///
    /// All go over one channel while it lives. What a lost channel did not write any more goes over another one, within the timeout;
    /// what was written is never sent again. A message to an exchange that has taken none yet goes first and alone, as with
    /// ``publish(_:properties:exchange:routingKey:mandatory:timeout:)``, and those behind it wait for that.
    ///
    /// - Parameters:
    ///   - messages: what to publish. All of them are held until the last has its outcome.
    ///   - timeout: for all of them together; nil is ``ConnectionConfiguration/operationTimeout``.
    /// - Returns: what became of each, at its place: success when the broker has confirmed it, otherwise an error as
    ///   ``publish(_:properties:exchange:routingKey:mandatory:timeout:)`` throws it. One that fails stops none of the others.
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
                // Those of its kind would be refused one after another, with a pause before each.
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
                // A lost channel takes nothing more, so the registry does not return it again.
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
