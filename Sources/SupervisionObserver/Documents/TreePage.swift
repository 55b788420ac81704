/// Which part of a tree to show.
package struct TreeRequest: Codable, Sendable, Equatable {
    package static let maximumLimit = 500
    package static let maximumToggled = 1000

    package var tree: Int
    /// Shows only matches and their ancestors. Empty for everything.
    package var query: String?
    /// The number of rows to skip, and the number of rows wanted.
    package var offset: Int?
    package var limit: Int?
    /// The keys of the supervisors whose open state differs from the default.
    package var toggled: [String]?

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
    package var tree: Int
    package var isRunning: Bool
    /// The total number of rows, without those of closed supervisors.
    package var rows: Int
    package var offset: Int
    /// The number of processes that match the query.
    package var matches: Int?
    package var page: [TreeRow]
}

package struct TreeRow: Codable, Sendable, Equatable {
    package var key: String
    package var name: String
    package var depth: Int
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
    package var belowDown: Int
    package var belowRestarts: Int
    package var isOpen: Bool
    /// Whether it matches the query itself.
    package var isMatch: Bool
}

/// The page of one process.
package struct ProcessPage: Codable, Sendable, Equatable {
    package struct Line: Codable, Sendable, Equatable {
        package var name: String
        package var value: String
    }

    package struct Link: Codable, Sendable, Equatable {
        package var pid: String
        /// Its position, if it is in the same tree.
        package var path: String?
        package var key: String?
    }

    package struct Incarnation: Codable, Sendable, Equatable {
        package var pid: String
        /// Milliseconds since 1970, if known.
        package var started: Int64?
        package var ended: Int64?
        package var reason: String?
        package var isExpected: Bool
    }

    package var tree: Int
    package var path: String
    package var row: TreeRow
    package var specification: [Line]
    package var links: [Link]
    package var monitors: Int
    package var names: [Line]
    /// What it reports about itself; `nil` when it reports nothing.
    package var description: [Line]?
    /// Why its report failed.
    package var descriptionProblem: String?
    /// Its activity, if it is a queue worker.
    package var worker: WorkerSummary?
    package var history: [Incarnation]
    package var events: [EventDocument]
}

/// An event of a process.
package struct EventDocument: Codable, Sendable, Equatable {
    package var number: UInt64
    /// Milliseconds since 1970.
    package var time: Int64
    package var tree: Int
    package var path: String
    /// Its position in the tree, the same for all incarnations.
    package var key: String
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

package struct EventPage: Codable, Sendable, Equatable {
    /// The newest event is the last.
    package var events: [EventDocument]
    /// The number of the oldest event that is still stored.
    package var oldest: UInt64
}
