import AMQPPool
import Synchronization

/// The broker's status of queues: requested in the background, at most every three seconds and while somebody watches.
final class QueueNumbers: Sendable {
    private struct Known: Sendable {
        var status: QueueStatus?
        var asked: ContinuousClock.Instant
    }

    private static let maximumQueues = 1000
    private static let askedAgainAfter = Duration.seconds(3)

    private let state = Mutex<[String: Known]>([:])

    /// The last answer; `nil` when there is none yet, or the broker does not know the queue.
    ///
    /// - Parameters:
    ///   - key: Identifies the queue and its broker.
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
            // Not awaited: the next request gets the answer, and asking has a timeout.
            Task.detached { [self] in
                let status = await ask()
                state.withLock { $0[key]?.status = status }
            }
        }
        return known
    }
}
