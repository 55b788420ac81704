/// What the page and `rpc top` show at a glance; sent to each viewer once a second.
package struct Overview: Codable, Sendable, Equatable {
    /// Of these documents. A viewer that knows another one says so instead of guessing.
    package static let currentVersion = 1

    package var version = Overview.currentVersion
    /// Milliseconds since 1970.
    package var time: Int64
    /// Of the OS process.
    package var processID: Int
    package var host: String
    /// Seconds since the observer began.
    package var uptime: Double
    /// The number of the last event.
    package var lastEvent: UInt64
    package var allowsActions: Bool
    package var viewers: Int
    package var trees: [TreeSummary]
    package var callers: [CallerSummary]
    package var receivers: [ReceiverSummary]
    package var pools: [PoolSummary]
    package var workers: WorkerTotals
}

package struct TreeSummary: Codable, Sendable, Equatable {
    /// Names the tree in requests.
    package var id: Int
    package var name: String
    package var isRunning: Bool
    package var processes: Int
    package var supervisors: Int
    /// Places without a running process, by what they do: starting, stopping, restarting, stopped.
    package var starting: Int
    package var stopping: Int
    package var restarting: Int
    package var stopped: Int
    package var restarts: Int
    package var abandoned: Int
    package var coolingDown: Int
    /// The supervisor that is closest to giving up.
    package var closest: WindowSummary?
    package var mayPlayKillMatrix: Bool
}

/// How close a supervisor is to giving up.
package struct WindowSummary: Codable, Sendable, Equatable {
    package var path: String
    package var used: Int
    package var allowed: Int
    /// Seconds.
    package var period: Double
    /// What happens when there are more: `escalate`, or `cooldown` with its seconds.
    package var whenExceeded: String
    package var cooldown: Double?
}

/// How many calls end, and how.
package struct RateSummary: Codable, Sendable, Equatable {
    package var total: Int
    /// A second.
    package var rate: Double
    /// Milliseconds, over the last minute.
    package var median: Double?
    package var p99: Double?
    package var longest: Double
    package var outcomes: [String: Int]
}

package struct CallerSummary: Codable, Sendable, Equatable {
    package var id: Int
    package var service: String
    package var state: String
    package var inFlight: Int
    package var calls: RateSummary?
    /// Each of the last seconds, the oldest first.
    package var perSecond: [Int]
}

package struct ReceiverSummary: Codable, Sendable, Equatable {
    package var id: Int
    package var service: String
    package var state: String
    package var running: Int
    package var concurrency: Int
    package var requests: RateSummary?
    package var perSecond: [Int]
}

package struct PoolSummary: Codable, Sendable, Equatable {
    package var id: Int
    package var name: String
    package var state: String
}

/// All workers of queues together.
package struct WorkerTotals: Codable, Sendable, Equatable {
    package var workers = 0
    package var paused = 0
    /// Those that do not consume although they are not paused.
    package var waiting = 0
    package var running = 0
    package var handled = 0
    package var failed = 0
    package var retried = 0
    package var parked = 0
    /// Messages handled a second, over the last ten.
    package var rate = 0.0
    /// Each of the last seconds, the oldest first.
    package var perSecond: [Int] = []
}
