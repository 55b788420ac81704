import Synchronization

/// A state that changes, and those who watch it.
///
/// A watcher gets the state of the moment, then each change. One that does not keep up loses the oldest ones that it has not taken:
/// at most ``limit`` wait, and the last state always arrives.
package final class StateBroadcast<State: Sendable & Equatable>: Sendable {
    package static var limit: Int { 16 }

    private struct Content {
        var state: State
        var isFinished = false
        var lastID: UInt64 = 0
        var watchers: [UInt64: AsyncStream<State>.Continuation] = [:]
    }

    private let content: Mutex<Content>

    package init(_ state: State) {
        content = Mutex(Content(state: state))
    }

    /// The state now, and each change. Ends after the state that ``finish(_:)`` is given.
    package var stream: AsyncStream<State> {
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
    package func update(_ look: () -> State) {
        content.withLock { content in
            let state = look()
            guard !content.isFinished, state != content.state else { return }
            content.state = state
            for watcher in content.watchers.values { watcher.yield(state) }
        }
    }

    /// Sends the last state, after which the streams end.
    package func finish(_ state: State) {
        let watchers = content.withLock { content in
            content.state = state
            content.isFinished = true
            for watcher in content.watchers.values { watcher.yield(state) }
            defer { content.watchers = [:] }
            return content.watchers.values
        }
        // Outside of the lock, which the termination handler takes.
        for watcher in watchers { watcher.finish() }
    }
}
