import AMQPPool
import Foundation
import Logging
import NIOCore
import Supervision

/// Publishes what is in the outbox, in its order, and deletes each row when the broker has confirmed its message.
///
/// What it is killed between, the confirm and the deletion, is published again by its next incarnation, under the same id. One relay reads
/// an outbox: a second would publish everything twice. A database that several machines share gives them turns, PostgreSQL with
/// `pg_advisory_lock` for instance.
public actor OutboxRelay: Worker {
    /// What the relay has just done, for tests.
    public enum Step: Sendable, Hashable {
        case confirmed
        case deleted
    }

    private let database: Database
    private let pool: AMQPPool
    private let interval: Duration
    private let stop: StopRequest
    private let logger: Logger
    private let onStep: @Sendable (Step) -> Void

    /// - Parameters:
    ///   - interval: how long it waits when there is nothing to do, or the broker takes nothing.
    public init(
        _ context: ChildContext,
        of database: Database,
        on pool: AMQPPool,
        every interval: Duration = .milliseconds(100),
        onStep: @escaping @Sendable (Step) -> Void = { _ in }
    ) {
        self.database = database
        self.pool = pool
        self.interval = interval
        self.onStep = onStep
        stop = context.stopRequest
        logger = context.logger
    }

    /// Publishes until it is asked to stop.
    public func run() async throws {
        while !stop.isRequested {
            if try await relay() { continue }
            try await Task.sleep(for: interval)
        }
    }

    /// Publishes what is there. Returns whether there may be more.
    private func relay() async throws -> Bool {
        let messages = try await database.outgoing()
        for message in messages where !stop.isRequested {
            do throws(AMQPError) {
                try await publish(message)
            } catch {
                switch error.cause {
                case .unencodable, .messageTooLarge, .invalidArgument:
                    logger.error(
                        "a message of the outbox can never be sent",
                        metadata: ["id": "\(message.id)", "error": "\(error)"]
                    )
                    try await database.refused(message, "\(error)")
                    continue
                default:
                    // It stays where it is, and so does what is behind it.
                    logger.warning("the outbox waits", metadata: ["id": "\(message.id)", "error": "\(error)"])
                    return false
                }
            }
            onStep(.confirmed)
            try Task.checkCancellation()
            try await database.sent(message)
            onStep(.deleted)
        }
        return !messages.isEmpty
    }

    private func publish(_ message: Database.Outgoing) async throws(AMQPError) {
        try await pool.publish(
            ByteBuffer(bytes: message.body),
            properties: MessageProperties(
                contentType: "application/json",
                deliveryMode: .persistent,
                messageID: message.id,
                timestamp: UInt64(Date.now.timeIntervalSince1970)
            ),
            routingKey: message.queue,
            // A queue that is not there is an error, and no message is lost.
            mandatory: true,
            timeout: .seconds(30)
        )
    }
}
