import Foundation

extension Database {
    /// Creates the tables of the outbox and the inbox if they do not exist.
    public func prepareOutbox() throws(DatabaseError) {
        // AUTOINCREMENT never reuses a number, so the order of the rows is the order of the commits.
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

    // MARK: Publishing

    /// Puts a message into the outbox. Call it in the transaction that makes the change which the message reports.
    ///
    /// - Parameter id: identifies the message, so that its handler can detect a repetition.
    public func enqueue(
        _ body: [UInt8],
        to queue: String,
        id: String = UUID().uuidString.lowercased()
    ) throws(DatabaseError) {
        try run("INSERT INTO outbox (id, queue, body) VALUES (?, ?, ?)", .text(id), .text(queue), .bytes(body))
    }

    /// A message in the outbox.
    public struct Outgoing: Sendable, Hashable {
        /// Its position in the order.
        public let position: Int64
        /// Identifies a repetition.
        public let id: String
        /// Its destination.
        public let queue: String
        /// The body.
        public let body: [UInt8]
    }

    /// The next messages to publish, in order, beginning after a position.
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

    /// The outcome of a message.
    public enum Outcome: Sendable, Hashable {
        /// The broker has confirmed it.
        case sent
        /// It can never be sent. It stays, with the reason, and does not block the others.
        case refused(String)
        /// The broker does not accept it now, for this reason.
        case waits(String)
    }

    /// Stores the outcomes of messages in one transaction, which costs one wait for the disk.
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

    // MARK: Handling

    /// Runs the body in a transaction, unless it was already run for this message. Returns whether it ran.
    ///
    /// - Parameter id: the id of the message. Without an id, repetitions are not detected.
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

    /// Deletes older messages. Keep them as long as a repetition may still arrive.
    public func forgetInbox(olderThan age: Duration) throws(DatabaseError) {
        try run("DELETE FROM inbox WHERE arrived < \(Self.now) - ?", .integer(age.components.seconds))
    }

    /// Seconds since 1970, with their fraction, also for a SQLite before 3.42.
    private static let now = "(julianday('now') - 2440587.5) * 86400.0"
}
