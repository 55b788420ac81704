import Foundation

extension Database {
    /// Makes the tables of the outbox and the inbox, if they are not there.
    public func prepareOutbox() throws(DatabaseError) {
        // The numbers of AUTOINCREMENT are never used again: the order of the rows is the order of the commits.
        try run(
            """
            CREATE TABLE IF NOT EXISTS outbox (
                position INTEGER PRIMARY KEY AUTOINCREMENT,
                id TEXT NOT NULL UNIQUE, queue TEXT NOT NULL, body BLOB NOT NULL, refusal TEXT
            )
            """
        )
        try run("CREATE TABLE IF NOT EXISTS inbox (id TEXT PRIMARY KEY, arrived REAL NOT NULL)")
    }

    // MARK: The side that publishes

    /// Puts a message into the outbox. To be called in the transaction that changes what the message tells of.
    ///
    /// - Parameter id: by which whoever handles it recognises a repetition.
    public func enqueue(
        _ body: [UInt8],
        to queue: String,
        id: String = UUID().uuidString.lowercased()
    ) throws(DatabaseError) {
        try run("INSERT INTO outbox (id, queue, body) VALUES (?, ?, ?)", .text(id), .text(queue), .bytes(body))
    }

    /// A message of the outbox.
    public struct Outgoing: Sendable, Hashable {
        /// Its place in the order.
        public let position: Int64
        /// By which a repetition is recognised.
        public let id: String
        /// Where it goes.
        public let queue: String
        /// The message itself.
        public let body: [UInt8]
    }

    /// The messages that are to be published next, in their order: the first behind a place in it.
    public func outgoing(after position: Int64 = 0, limit: Int = 100) throws(DatabaseError) -> [Outgoing] {
        let rows = try run(
            """
            SELECT position, id, queue, body FROM outbox
            WHERE refusal IS NULL AND position > ? ORDER BY position LIMIT ?
            """,
            .integer(position),
            .integer(Int64(limit))
        )
        return rows.compactMap { row in
            guard case .integer(let position) = row[0], case .text(let id) = row[1], case .text(let queue) = row[2],
                case .bytes(let body) = row[3]
            else { return nil }
            return Outgoing(position: position, id: id, queue: queue, body: body)
        }
    }

    /// What became of a message of the outbox.
    public enum Outcome: Sendable, Hashable {
        /// The broker has it.
        case sent
        /// It can never be sent. It stays, with the reason, and does not hold up the others.
        case refused(String)
        /// The broker does not take it now, for this reason.
        case waits(String)
    }

    /// Notes what became of messages, in one transaction: it costs one wait for the disk.
    public func note(_ outcomes: [(Outgoing, Outcome)]) throws(DatabaseError) {
        try transaction { (database: isolated Database) throws(DatabaseError) in
            for (message, outcome) in outcomes {
                let position = Value.integer(message.position)
                switch outcome {
                case .sent: try database.run("DELETE FROM outbox WHERE position = ?", position)
                case .refused(let reason):
                    try database.run("UPDATE outbox SET refusal = ? WHERE position = ?", .text(reason), position)
                case .waits: break
                }
            }
        }
    }

    // MARK: The side that handles

    /// Runs the body in a transaction, unless it has been run for this message before. Returns whether it was run.
    ///
    /// - Parameter id: the id of the message. Without one, nothing is recognised.
    @discardableResult
    public func once(
        for id: String?,
        _ body: @Sendable (isolated Database) throws(DatabaseError) -> Void
    ) throws(DatabaseError) -> Bool {
        try transaction { (database: isolated Database) throws(DatabaseError) -> Bool in
            if let id {
                let inserted = try database.run(
                    "INSERT INTO inbox (id, arrived) VALUES (?, \(Self.now)) ON CONFLICT DO NOTHING RETURNING id",
                    .text(id)
                )
                if inserted.isEmpty { return false }
            }
            try body(database)
            return true
        }
    }

    /// Forgets messages that came longer ago: as long as any may still be on its way twice.
    public func forgetInbox(olderThan age: Duration) throws(DatabaseError) {
        try run("DELETE FROM inbox WHERE arrived < \(Self.now) - ?", .integer(age.components.seconds))
    }

    /// Seconds since 1970, with their fraction, also for a SQLite before 3.42.
    private static let now = "(julianday('now') - 2440587.5) * 86400.0"
}
