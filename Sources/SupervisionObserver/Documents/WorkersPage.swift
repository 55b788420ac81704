/// The workers of queues in the trees.
package struct WorkersPage: Codable, Sendable, Equatable {
    package static let maximumLimit = 200

    /// How many there are in all, and how many match.
    package var workers: Int
    package var matches: Int
    package var offset: Int
    package var page: [WorkerSummary]
}

package struct WorkerSummary: Codable, Sendable, Equatable {
    package struct Queue: Codable, Sendable, Equatable {
        package var name: String
        package var failed: String
        package var isConsuming: Bool
        /// Why it does not consume.
        package var interruption: String?
        /// What waits in the queue, who consumes it, and what is kept as failed, as the broker said last.
        package var backlog: Int?
        package var consumers: Int?
        package var keptAsFailed: Int?
    }

    /// Where it is.
    package var tree: Int
    package var key: String
    package var path: String
    package var pid: String
    package var queues: [Queue]
    /// `working`, `waiting` when it consumes none of its queues, `paused` by somebody, `tripped` by its kill switch.
    package var state: String
    /// Seconds until its kill switch lets messages begin.
    package var resumesIn: Double?
    package var running: Int
    package var concurrency: Int
    package var unsettled: Int
    package var prefetch: Int
    /// How many messages may begin in a time, such as `10 in 1.0 seconds`.
    package var limit: String?
    package var zombies: Int
    /// Handled a second, over the last ten, while somebody looks.
    package var rate: Double
    /// Of this incarnation.
    package var handled: Int
    package var failed: Int
    package var retried: Int
    package var parked: Int
    /// What else became of messages: rejected, discarded, repeated, unhandled.
    package var others: [ProcessPage.Line]
}
