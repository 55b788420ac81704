import AMQPPool
import Synchronization

/// What the broker said of queues: it is asked in the background, at most every three seconds and while somebody looks.
final class QueueNumbers: Sendable {
    private struct Known: Sendable {
        var status: QueueStatus?
        var asked: ContinuousClock.Instant
    }

    private static let maximumQueues = 1000
    private static let askedAgainAfter = Duration.seconds(3)

    private let state = Mutex<[String: Known]>([:])

    /// What was said last; `nil` when nothing is known yet, or the broker knows no such queue.
    ///
    /// - Parameters:
    ///   - key: Names the queue, and where it is.
    ///   - ask: Asks the broker.
    func status(of key: String, ask: @escaping @Sendable () async -> QueueStatus?) -> QueueStatus? {
        let now = ContinuousClock.now
        let (known, asks) = state.withLock { state -> (QueueStatus?, Bool) in
            if let known = state[key], known.asked.duration(to: now) < Self.askedAgainAfter {
                return (known.status, false)
            }
            let status = state[key]?.status
            if state[key] == nil, state.count >= Self.maximumQueues { state = [:] }
            state[key] = Known(status: status, asked: now)
            return (status, true)
        }
        if asks {
            // Nobody waits for it: whoever looks next sees the answer, and asking has a timeout.
            Task.detached { [self] in
                let status = await ask()
                state.withLock { $0[key]?.status = status }
            }
        }
        return known
    }
}
