internal import ConcurrencyPrimitives
import NIOCore
import Synchronization

extension AMQPChannel {
    /// Publishes messages in this order, written at once, and waits until the broker has told the outcome of each. It costs a fraction
    /// of publishing them one by one. The first call puts the channel into confirm mode.
    ///
    /// - Parameters:
    ///   - messages: what to publish. What the channel has no room for waits, as a single message does.
    ///   - timeout: for all of them together; nil is ``ConnectionConfiguration/operationTimeout``.
    /// - Returns: what became of each, at its place: success when the broker has confirmed it, otherwise an error as
    ///   ``publish(_:properties:exchange:routingKey:mandatory:timeout:)`` throws it. One that fails stops none of the others, but for
    ///   one that the broker refuses: it closes the channel for that, and what came behind it is ``AMQPError/notSent(_:)``.
    public func publish(
        contentsOf messages: [OutgoingMessage],
        timeout: Duration? = nil
    ) async -> [Result<Void, AMQPError>] {
        guard let metrics = configuration.metrics else { return await publishUnmeasured(messages, timeout: timeout) }
        let begun = metrics.began(messages.count)
        let results = await publishUnmeasured(messages, timeout: timeout)
        for (message, result) in zip(messages, results) { metrics.ended(to: message.destination, since: begun, result) }
        return results
    }

    /// The same, for those who measure it themselves.
    func publishUnmeasured(_ messages: [OutgoingMessage], timeout: Duration?) async -> [Result<Void, AMQPError>] {
        guard !messages.isEmpty else { return [] }
        if !isConfirming {
            do throws(AMQPError) {
                try await selectConfirms(timeout: timeout)
            } catch {
                let error = error.asNotSent
                return messages.map { _ in .failure(error) }
            }
        }
        let timeout = (timeout ?? configuration.operationTimeout).bounded
        let batch = PublishBatch(messages)
        await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
                let deadline = eventLoop.scheduleTask(in: TimeAmount(timeout)) {
                    self.assumeIsolated { $0.abandon(batch, .timedOut(operation: "publish", after: timeout)) }
                }
                submit(messages, batch)
                batch.whenAllHaveEnded {
                    deadline.cancel()
                    continuation.resume()
                }
            }
        } onCancel: {
            onEventLoop { $0.abandon(batch, .cancelled(operation: "publish")) }
        }
        let closedError = closedError ?? connection.closedError ?? .channelClosed
        return batch.results(closedError: closedError)
    }

    private func submit(_ messages: [OutgoingMessage], _ batch: PublishBatch) {
        var publishes: [Publish] = []
        publishes.reserveCapacity(messages.count)
        for (index, message) in messages.enumerated() {
            let problem = message.method.nameProblem
            let (bytes, limit) = (message.body.readableBytes, configuration.maximumMessageSize)
            if let problem {
                batch.published(index, .refused(.invalidArgument(problem)))
            } else if bytes > limit {
                batch.published(index, .refused(.messageTooLarge(bytes: bytes, limit: limit)))
            } else {
                var publish = Publish(
                    exchange: message.exchange,
                    routingKey: message.routingKey,
                    mandatory: message.mandatory,
                    properties: message.properties,
                    body: message.body,
                    observer: batch,
                    attempt: index
                )
                publish.tellsRefusals = true
                publishes.append(publish)
            }
        }
        let taken = waitingPublishes.isEmpty ? offer(publishes) : 0
        for publish in publishes.dropFirst(taken) {
            lastPublish += 1
            batch.waits(publish.attempt, as: lastPublish)
            waitingPublishes.append(publish, lastPublish)
        }
    }

    /// Its publisher waits no longer. What waits is not sent; what was sent, its outcome finds nobody.
    private func abandon(_ batch: PublishBatch, _ error: AMQPError) {
        var unsent = error
        if case .timedOut = error, let reason = connection.blockedReason { unsent = .blocked(reason: reason) }
        batch.abandon(written: error, unsent: unsent) { waitingPublishes.remove($0) }
    }
}

/// Messages whose publisher waits for the outcomes of all of them.
///
/// As large as what was handed over. All of it happens on the event loop of the channel; the lock is never contended.
private final class PublishBatch: PublishObserver {
    private struct Entry {
        var exchange: String
        var routingKey: String
        var isWritten = false
        /// Its place among those that wait for room.
        var waiting: UInt64?
        var outcome: PublishOutcome?
    }

    private struct State {
        var entries: [Entry]
        var left: Int
        var end: (@Sendable () -> Void)?

        mutating func end(_ index: Int, _ outcome: PublishOutcome) -> (@Sendable () -> Void)? {
            guard entries.indices.contains(index), entries[index].outcome == nil else { return nil }
            entries[index].outcome = outcome
            left -= 1
            guard left == 0 else { return nil }
            defer { end = nil }
            return end
        }
    }

    private let state: Mutex<State>

    init(_ messages: [OutgoingMessage]) {
        state = Mutex(
            State(
                entries: messages.map { Entry(exchange: $0.exchange, routingKey: $0.routingKey) },
                left: messages.count
            )
        )
    }

    /// The message waits for room in the outbox.
    func waits(_ index: Int, as id: UInt64) {
        state.withLock { $0.entries[index].waiting = id }
    }

    func mayWrite(_ index: Int) -> Bool {
        state.withLock { state in
            guard state.entries[index].outcome == nil else { return false }
            state.entries[index].isWritten = true
            return true
        }
    }

    func published(_ index: Int, _ outcome: PublishOutcome) {
        state.withLock { $0.end(index, outcome) }?()
    }

    /// Calls this once, when each message has its outcome.
    func whenAllHaveEnded(_ end: @escaping @Sendable () -> Void) {
        let isOver = state.withLock { state in
            if state.left > 0 { state.end = end }
            return state.left == 0
        }
        if isOver { end() }
    }

    /// Ends all that have no outcome yet.
    ///
    /// - Parameter giveUp: takes out one that waits for room; whether it did.
    func abandon(written: AMQPError, unsent: AMQPError, giveUp: (UInt64) -> Bool) {
        let end = state.withLock { state -> (@Sendable () -> Void)? in
            var end: (@Sendable () -> Void)?
            for index in state.entries.indices where state.entries[index].outcome == nil {
                let entry = state.entries[index]
                let outcome: PublishOutcome
                if entry.isWritten {
                    outcome = .unknown(written)
                } else if let id = entry.waiting, giveUp(id), case .timedOut = unsent {
                    outcome = .notWritten(.outboxIsFull)
                } else {
                    outcome = .notWritten(unsent)
                }
                end = state.end(index, outcome) ?? end
            }
            return end
        }
        end?()
    }

    func results(closedError: AMQPError) -> [Result<Void, AMQPError>] {
        state.withLock { state in
            state.entries.map { entry in
                (entry.outcome ?? .unknown(closedError)).result(
                    exchange: entry.exchange,
                    routingKey: entry.routingKey,
                    closedError: closedError
                )
            }
        }
    }
}
