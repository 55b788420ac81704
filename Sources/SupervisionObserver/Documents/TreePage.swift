/// Which part of a tree to show.
package struct TreeRequest: Codable, Sendable, Equatable {
    package static let maximumLimit = 500
    static let maximumToggled = 1000

    var tree: Int
    /// Shows only matches and their ancestors. Empty for everything.
    var query: String?
    /// The number of rows to skip, and the number of rows wanted.
    var offset: Int?
    var limit: Int?
    /// The keys of the supervisors whose open state differs from the default.
    var toggled: [String]?

    package init(
        tree: Int,
        query: String? = nil,
        offset: Int? = nil,
        limit: Int? = nil,
        toggled: [String]? = nil
    ) {
        self.tree = tree
        self.query = query
        self.offset = offset
        self.limit = limit
        self.toggled = toggled
    }
}

/// A part of a tree.
package struct TreePage: Codable, Sendable, Equatable {
    var tree: Int
    package var isRunning: Bool
    /// The total number of rows, without those of closed supervisors.
    package var rows: Int
    var offset: Int
    /// The number of processes that match the query.
    package var matches: Int?
    package var page: [TreeRow]
}

package struct TreeRow: Codable, Sendable, Equatable {
    package var key: String
    package var name: String
    var depth: Int
    /// For each ancestor level, whether a line continues to a later sibling; then whether this is the last of its siblings.
    package var rails: String
    /// `one_for_one`, `one_for_all`, `rest_for_one`, `dynamic`, or the type of the worker.
    package var kind: String
    package var isSupervisor: Bool
    package var status: String
    package var pid: String?
    /// Seconds.
    package var age: Double?
    package var restarts: Int
    package var lastExit: String?
    package var abandoned: Int
    /// Seconds until its restart.
    package var startsIn: Double?
    package var isCoolingDown: Bool
    package var window: WindowSummary?
    /// For a supervisor: the number of its children, and of all its descendants.
    package var children: Int
    package var below: Int
    var belowDown: Int
    var belowRestarts: Int
    package var isOpen: Bool
    /// Whether it matches the query itself.
    var isMatch: Bool
}

/// The page of one process.
struct ProcessPage: Codable, Sendable, Equatable {
    struct Line: Codable, Sendable, Equatable {
        var name: String
        var value: String
    }

    struct Link: Codable, Sendable, Equatable {
        var pid: String
        /// Its position, if it is in the same tree.
        var path: String?
        var key: String?
    }

    struct Incarnation: Codable, Sendable, Equatable {
        var pid: String
        /// Milliseconds since 1970, if known.
        var started: Int64?
        var ended: Int64?
        var reason: String?
        var isExpected: Bool
    }

    var tree: Int
    var path: String
    var row: TreeRow
    var specification: [Line]
    var links: [Link]
    var monitors: Int
    var names: [Line]
    /// What it reports about itself; `nil` when it reports nothing.
    var description: [Line]?
    /// Why its report failed.
    var descriptionProblem: String?
    /// Its activity, if it is a queue worker.
    var worker: WorkerSummary?
    var history: [Incarnation]
    var events: [EventDocument]
}

/// An event of a process.
package struct EventDocument: Codable, Sendable, Equatable {
    package var number: UInt64
    /// Milliseconds since 1970.
    package var time: Int64
    var tree: Int
    package var path: String
    /// Its position in the tree, the same for all incarnations.
    var key: String
    package var pid: String?
    /// `started`, `ignored`, `start failed`, `exited`, `stopped`, `restarting`, `cooling down`, `gave up`, `abandoned`; events of the
    /// observer itself are `action` and `kill matrix`.
    package var kind: String
    package var reason: String?
    /// Whether it is not a fault.
    package var isExpected: Bool
    /// Seconds until the restart.
    package var delay: Double?
}

struct EventPage: Codable, Sendable, Equatable {
    /// The newest event is the last.
    var events: [EventDocument]
    /// The number of the oldest event that is still stored.
    var oldest: UInt64
}
