internal import ConcurrencyPrimitives
import NIOCore
import Synchronization

extension AMQPChannel {
    /// Publishes messages in this order, written in one go, and waits for the outcome of each. It costs a fraction of publishing them one
    /// by one. The first call puts the channel into confirm mode.
    ///
    /// - Parameters:
    ///   - messages: The messages. Those that the channel has no room for wait, like a single message.
    ///   - timeout: The time limit for all of them together; `nil` for ``ConnectionConfiguration/operationTimeout``.
    /// - Returns: The outcome of each message, at its index: success when the broker has confirmed it, otherwise an error like those thrown
    ///   by ``publish(_:properties:exchange:routingKey:mandatory:timeout:)``. A failed message does not affect the others, unless the
    ///   broker refuses it: it closes the channel, and the messages after it are ``AMQPError/notSent(_:)``.
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

    /// The same without metrics, for callers that measure it themselves.
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

    /// The publisher no longer waits. Waiting messages are not sent; the outcomes of sent ones are ignored.
    private func abandon(_ batch: PublishBatch, _ error: AMQPError) {
        var unsent = error
        if case .timedOut = error, let reason = connection.blockedReason { unsent = .blocked(reason: reason) }
        batch.abandon(written: error, unsent: unsent) { waitingPublishes.remove($0) }
    }
}

/// Messages whose publisher waits for the outcomes of all of them.
///
/// Its size is that of the caller's array. Everything happens on the channel's event loop; the lock is never contended.
private final class PublishBatch: PublishObserver {
    private struct Entry {
        var exchange: String
        var routingKey: String
        var isWritten = false
        /// Its id among the messages that wait for room.
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

    /// Records that the message waits for room in the outbox.
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

    /// Calls `end` once, when every message has its outcome.
    func whenAllHaveEnded(_ end: @escaping @Sendable () -> Void) {
        let isOver = state.withLock { state in
            if state.left > 0 { state.end = end }
            return state.left == 0
        }
        if isOver { end() }
    }

    /// Completes all messages that have no outcome.
    ///
    /// - Parameter giveUp: Removes a message that waits for room; returns whether it did.
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
