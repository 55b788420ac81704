import AMQPPool
import Foundation
import QueueWorkers
import Supervision

/// A shop whose orders are shipped by a worker. Orders and messages about them are committed together.
public struct Shop: Sendable {
    /// An order.
    public struct Order: Codable, Sendable, Hashable {
        /// The number of the order.
        public var number: Int64
    }

    /// The database with orders, shipments, outbox and inbox.
    public let database: Database

    /// - Parameter path: of the database.
    public init(_ path: String) async throws {
        database = try Database(path)
        try await database.prepareOutbox()
        try await database.run("CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY AUTOINCREMENT)")
        // Not unique, so that a message that is handled twice is visible.
        try await database.run("CREATE TABLE IF NOT EXISTS shipments (number INTEGER NOT NULL)")
    }

    /// Accepts an order: the row and the message are written both or not at all.
    @discardableResult
    public func takeOrder() async throws -> Int64 {
        try await database.transaction { (database: isolated Database) throws(DatabaseError) -> Int64 in
            guard
                case .integer(let number)? = try database.run("INSERT INTO orders DEFAULT VALUES RETURNING number")
                    .first?.first
            else { throw DatabaseError(code: 0, description: "no number") }
            try database.enqueue(Array(#"{"number":\#(number)}"#.utf8), to: "orders")
            return number
        }
    }

    /// The shop's tree: the pool, the worker that ships, the relay. The worker declares the queue.
    public func tree(
        on pool: AMQPPool,
        onStep: @escaping @Sendable (OutboxRelay.Step) throws -> Void = { _ in }
    ) -> Supervisor {
        let database = database
        return Supervisor("shop") {
            pool.supervisor
            Child.worker(of: Order.self, from: "orders", on: pool) { order, context in
                try await database.once(for: context.messageID) { (database: isolated Database) throws(DatabaseError) in
                    try database.run("INSERT INTO shipments (number) VALUES (?)", .integer(order.number))
                }
            }
            Child("relay") { context in OutboxRelay(context, of: database, on: pool, onStep: onStep) }
        }
    }

    /// The numbers of the orders and of the shipments, in chronological order.
    public func books() async throws -> (orders: [Int64], shipments: [Int64]) {
        func numbers(_ rows: [[Database.Value]]) -> [Int64] {
            rows.compactMap { if case .integer(let number)? = $0.first { number } else { nil } }
        }
        return (
            numbers(try await database.run("SELECT number FROM orders ORDER BY number")),
            numbers(try await database.run("SELECT number FROM shipments ORDER BY rowid"))
        )
    }

    /// Waits until all orders are shipped and the outbox is empty.
    public func waitUntilShipped(atMost timeout: Duration) async throws -> Bool {
        let deadline = ContinuousClock.now + timeout
        while ContinuousClock.now < deadline {
            let (orders, shipments) = try await books()
            if try await database.outgoing(limit: 1).isEmpty, Set(shipments).isSuperset(of: orders) { return true }
            try await Task.sleep(for: .milliseconds(50))
        }
        return false
    }
}
