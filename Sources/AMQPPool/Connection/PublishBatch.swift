internal import ConcurrencyPrimitives
import NIOCore
import Synchronization

/// Messages whose publisher waits for the outcomes of all of them.
///
/// Its size is that of the caller's array. Everything happens on the channel's event loop; the lock is never contended.
final class PublishBatch: PublishObserver {
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
