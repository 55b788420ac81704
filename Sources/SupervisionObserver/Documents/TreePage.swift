/// Which part of a tree to show.
package struct TreeRequest: Codable, Sendable, Equatable {
    package static let maximumLimit = 500
    package static let maximumToggled = 1000

    package var tree: Int
    /// Only what matches, and what is above it. Empty for everything.
    package var query: String?
    /// The rows to leave out, and the number of rows wanted.
    package var offset: Int?
    package var limit: Int?
    /// The keys of the supervisors that are open when they would be closed, and the other way round.
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
    /// How many rows there are in all, with what is closed closed.
    package var rows: Int
    package var offset: Int
    /// How many processes match the query.
    package var matches: Int?
    package var page: [TreeRow]
}

package struct TreeRow: Codable, Sendable, Equatable {
    package var key: String
    package var name: String
    package var depth: Int
    /// For each level above, whether a line goes on to a later sibling; then whether this is the last of its siblings.
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
    /// Seconds until it is started again.
    package var startsIn: Double?
    package var isCoolingDown: Bool
    package var window: WindowSummary?
    /// Of a supervisor: how many children it has, and what is below it in all.
    package var children: Int
    package var below: Int
    package var belowDown: Int
    package var belowRestarts: Int
    package var isOpen: Bool
    /// Whether it matches the query itself.
    package var isMatch: Bool
}

/// What there is to see of one process.
package struct ProcessPage: Codable, Sendable, Equatable {
    package struct Line: Codable, Sendable, Equatable {
        package var name: String
        package var value: String
    }

    package struct Link: Codable, Sendable, Equatable {
        package var pid: String
        /// Where it is, when it is in the same tree.
        package var path: String?
        package var key: String?
    }

    package struct Incarnation: Codable, Sendable, Equatable {
        package var pid: String
        /// Milliseconds since 1970, as far as known.
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
    /// What it says about itself; `nil` when it has nothing to say.
    package var description: [Line]?
    /// Why it says nothing although it would.
    package var descriptionProblem: String?
    /// What it does, if it is a worker of queues.
    package var worker: WorkerSummary?
    package var history: [Incarnation]
    package var events: [EventDocument]
}

/// Something that happened to a process.
package struct EventDocument: Codable, Sendable, Equatable {
    package var number: UInt64
    /// Milliseconds since 1970.
    package var time: Int64
    package var tree: Int
    package var path: String
    /// Its place in the tree, the same for all incarnations.
    package var key: String
    package var pid: String?
    /// `started`, `ignored`, `start failed`, `exited`, `stopped`, `restarting`, `cooling down`, `gave up`, `abandoned`; of the
    /// observer itself `action` and `kill matrix`.
    package var kind: String
    package var reason: String?
    /// Whether it is nothing to worry about.
    package var isExpected: Bool
    /// Seconds until the restart.
    package var delay: Double?
}

package struct EventPage: Codable, Sendable, Equatable {
    /// The newest last.
    package var events: [EventDocument]
    /// The number of the oldest one that is still known.
    package var oldest: UInt64
}
