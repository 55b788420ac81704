import Synchronization

/// A state that changes, and those who watch it.
///
/// A watcher gets the state of the moment, then each change. One that does not keep up loses the oldest ones that it has not taken:
/// at most ``limit`` wait, and the last state always arrives.
public final class StateBroadcast<State: Sendable & Equatable>: Sendable {
    /// How many states wait for a watcher.
    public static var limit: Int { 16 }

    private struct Content {
        var state: State
        var isFinished = false
        var lastID: UInt64 = 0
        var watchers: [UInt64: AsyncStream<State>.Continuation] = [:]
        /// What is to be sent yet, in order, and whether somebody is sending it.
        var unsent: [Transmission] = []
        var isSending = false

        /// Returns whether the caller has to call ``StateBroadcast/send()``.
        mutating func enqueue(isLast: Bool = false) -> Bool {
            unsent.append(Transmission(state: state, watchers: Array(watchers.values), isLast: isLast))
            defer { isSending = true }
            return !isSending
        }
    }

    private struct Transmission {
        var state: State
        var watchers: [AsyncStream<State>.Continuation]
        var isLast: Bool
    }

    private let content: Mutex<Content>

    /// With the state of the moment.
    public init(_ state: State) {
        content = Mutex(Content(state: state))
    }

    /// The state now, and each change. Ends after the state that ``finish(_:)`` is given.
    public var stream: AsyncStream<State> {
        let (stream, continuation) = AsyncStream.makeStream(
            of: State.self,
            bufferingPolicy: .bufferingNewest(Self.limit)
        )
        let id = content.withLock { content -> UInt64? in
            continuation.yield(content.state)
            if content.isFinished { return nil }
            content.lastID += 1
            content.watchers[content.lastID] = continuation
            return content.lastID
        }
        guard let id else {
            continuation.finish()
            return stream
        }
        continuation.onTermination = { [weak self] _ in
            self?.content.withLock { _ = $0.watchers.removeValue(forKey: id) }
        }
        return stream
    }

    /// Looks at the state and sends it to the watchers, if it is another. It looks under the lock, so that the last state sent is
    /// the last one there was.
    public func update(_ look: () -> State) {
        let sends = content.withLock { content in
            let state = look()
            guard !content.isFinished, state != content.state else { return false }
            content.state = state
            return content.enqueue()
        }
        if sends { send() }
    }

    /// Sends the last state, after which the streams end.
    public func finish(_ state: State) {
        let sends = content.withLock { content in
            content.state = state
            content.isFinished = true
            defer { content.watchers = [:] }
            return content.enqueue(isLast: true)
        }
        if sends { send() }
    }

    /// Sends what is unsent, one after the other, outside of the lock: yielding to a watcher waits for whoever is cancelling its
    /// task, and that may be waiting for the lock in the termination handler.
    private func send() {
        while true {
            let next = content.withLock { content -> Transmission? in
                if content.unsent.isEmpty {
                    content.isSending = false
                    return nil
                }
                return content.unsent.removeFirst()
            }
            guard let next else { return }
            for watcher in next.watchers {
                watcher.yield(next.state)
                if next.isLast { watcher.finish() }
            }
        }
    }
}
