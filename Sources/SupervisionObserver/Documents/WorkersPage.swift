/// The page of the queue workers in the trees.
package struct WorkersPage: Codable, Sendable, Equatable {
    static let maximumLimit = 200

    /// The total number of workers, and the number that match.
    var workers: Int
    package var matches: Int
    var offset: Int
    package var page: [WorkerSummary]
}

package struct WorkerSummary: Codable, Sendable, Equatable {
    package struct Queue: Codable, Sendable, Equatable {
        package var name: String
        package var failed: String
        var isConsuming: Bool
        /// Why it is not consuming.
        package var interruption: String?
        /// The ready messages, consumers and failed messages of the queue, according to the broker's last answer.
        package var backlog: Int?
        var consumers: Int?
        package var keptAsFailed: Int?
    }

    /// Its position.
    var tree: Int
    var key: String
    package var path: String
    var pid: String
    package var queues: [Queue]
    /// `working`, `waiting` when it consumes none of its queues, `paused` by a user, `tripped` by its kill switch.
    package var state: String
    /// Seconds until its kill switch lets messages start.
    var resumesIn: Double?
    package var running: Int
    package var concurrency: Int
    package var unsettled: Int
    package var prefetch: Int
    /// How many messages may start per interval, for example `10 in 1.0 seconds`.
    package var limit: String?
    package var zombies: Int
    /// Handled messages per second, over the last ten, while somebody watches.
    package var rate: Double
    /// In this incarnation.
    package var handled: Int
    package var failed: Int
    package var retried: Int
    package var parked: Int
    /// Other outcomes of messages: rejected, discarded, repeated, unhandled.
    var others: [ProcessPage.Line]
}
