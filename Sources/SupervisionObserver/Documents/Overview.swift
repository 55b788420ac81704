/// The summary on the page and in `rpc top`; sent to each viewer once a second.
package struct Overview: Codable, Sendable, Equatable {
    /// The version of these documents. A viewer that expects another one reports that instead of guessing.
    static let currentVersion = 1

    var version = Overview.currentVersion
    /// Milliseconds since 1970.
    package var time: Int64
    /// The id of the OS process.
    package var processID: Int
    package var host: String
    /// Seconds since the observer started.
    package var uptime: Double
    /// The number of the last event.
    var lastEvent: UInt64
    var allowsActions: Bool
    var viewers: Int
    package var trees: [TreeSummary]
    package var callers: [CallerSummary]
    package var receivers: [ReceiverSummary]
    var pools: [PoolSummary]
    package var workers: WorkerTotals
}

package struct TreeSummary: Codable, Sendable, Equatable {
    /// Identifies the tree in requests.
    package var id: Int
    package var name: String
    var isRunning: Bool
    package var processes: Int
    var supervisors: Int
    /// The number of positions without a running process, by status: starting, stopping, restarting, stopped.
    package var starting: Int
    package var stopping: Int
    package var restarting: Int
    package var stopped: Int
    package var restarts: Int
    package var abandoned: Int
    var coolingDown: Int
    /// The supervisor that is closest to exceeding its intensity.
    package var closest: WindowSummary?
    var mayPlayKillMatrix: Bool
}

/// How close a supervisor is to exceeding its intensity.
package struct WindowSummary: Codable, Sendable, Equatable {
    package var path: String
    package var used: Int
    package var allowed: Int
    /// Seconds.
    package var period: Double
    /// What happens when the intensity is exceeded: `escalate`, or `cooldown` with its seconds.
    package var whenExceeded: String
    var cooldown: Double?
}

/// How many calls end, and with which outcomes.
package struct RateSummary: Codable, Sendable, Equatable {
    package var total: Int
    /// Per second.
    package var rate: Double
    /// In milliseconds, over the last minute.
    package var median: Double?
    package var p99: Double?
    var longest: Double
    package var outcomes: [String: Int]
}

package struct CallerSummary: Codable, Sendable, Equatable {
    var id: Int
    var service: String
    var state: String
    package var inFlight: Int
    package var calls: RateSummary?
    /// In each of the last seconds, oldest first.
    var perSecond: [Int]
}

package struct ReceiverSummary: Codable, Sendable, Equatable {
    var id: Int
    var service: String
    var state: String
    var running: Int
    var concurrency: Int
    package var requests: RateSummary?
    var perSecond: [Int]
}

struct PoolSummary: Codable, Sendable, Equatable {
    var id: Int
    var name: String
    var state: String
}

/// The totals of all queue workers.
package struct WorkerTotals: Codable, Sendable, Equatable {
    package var workers = 0
    package var paused = 0
    /// Workers that are not consuming although they are not paused.
    var waiting = 0
    var running = 0
    var handled = 0
    package var failed = 0
    var retried = 0
    package var parked = 0
    /// Handled messages per second, over the last ten.
    package var rate = 0.0
    /// In each of the last seconds, oldest first.
    var perSecond: [Int] = []
}
