import Synchronization

/// A state, and a stream of its changes for each watcher.
///
/// A watcher gets the current state, then each change. A slow watcher loses the oldest states: at most ``limit`` are buffered, and the last
/// state always arrives.
public final class StateBroadcast<State: Sendable & Equatable>: Sendable {
    /// The maximum number of states buffered per watcher.
    public static var limit: Int { 16 }

    private struct Content {
        var state: State
        var isFinished = false
        var lastID: UInt64 = 0
        var watchers: [UInt64: AsyncStream<State>.Continuation] = [:]
        /// The transmissions that remain to be sent, in order; one thread sends them.
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

    /// Creates a broadcast with the current state.
    public init(_ state: State) {
        content = Mutex(Content(state: state))
    }

    /// The current state, and each change. Ends after the state passed to ``finish(_:)``.
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

    /// Reads the state and sends it to the watchers if it has changed. It is read under the lock, so that the last state sent is the
    /// latest.
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

    /// Sends the remaining transmissions one after the other, outside the lock: yielding to a watcher waits for whoever is cancelling its
    /// task, which may be waiting for the lock in the termination handler.
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
