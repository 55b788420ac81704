import AMQPPool
import Foundation
import Logging
import NIOCore
import Supervision

/// Publishes the messages in the outbox, in batches and in order, and deletes each row whose message the broker has confirmed.
///
/// If it is killed between the confirm and the deletion, its next incarnation publishes the message again, under the same id. A message that
/// the broker does not accept now stays, and does not block the next ones. Only one relay may read an outbox: a second one would publish
/// everything twice. If several machines share the database, use a lock, for example `pg_advisory_lock` in PostgreSQL.
public actor OutboxRelay: Worker {
    /// The steps of the relay, for tests that kill it after one.
    public enum Step: Sendable, Hashable {
        /// The broker has answered, and the outcome is not yet in the database.
        case published
        case deleted
    }

    private let database: Database
    private let pool: AMQPPool
    private let interval: Duration
    private let stop: StopRequest
    private let logger: Logger
    private let onStep: @Sendable (Step) throws -> Void

    /// - Parameters:
    ///   - interval: the time between two reads of the outbox.
    public init(
        _ context: ChildContext,
        of database: Database,
        on pool: AMQPPool,
        every interval: Duration = .milliseconds(100),
        onStep: @escaping @Sendable (Step) throws -> Void = { _ in }
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
            try await relayAll()
            try await Task.sleep(for: interval)
        }
    }

    /// Publishes the messages in batches. A message that has to wait does not block the others.
    private func relayAll() async throws {
        var last: Int64 = 0
        while !stop.isRequested {
            let messages = try await database.outgoing(after: last)
            guard let end = messages.last else { return }
            last = end.position
            let results = await pool.publish(contentsOf: messages.map(\.published), timeout: .seconds(30))
            try onStep(.published)
            try Task.checkCancellation()
            let outcomes = zip(messages, results).map { ($0, Database.Outcome($1)) }
            try await database.note(outcomes)
            log(outcomes)
            try onStep(.deleted)
        }
    }

    private func log(_ outcomes: [(Database.Outgoing, Database.Outcome)]) {
        for (message, outcome) in outcomes {
            guard case .refused(let reason) = outcome else { continue }
            logger.error(
                "a message of the outbox can never be sent",
                metadata: ["id": "\(message.id)", "error": "\(reason)"]
            )
        }
        // One line for any number of messages.
        let waiting = outcomes.compactMap { if case .waits(let reason) = $0.1 { reason } else { nil } }
        guard let reason = waiting.first else { return }
        logger.warning(
            "messages of the outbox wait",
            metadata: ["count": "\(waiting.count)", "error": "\(reason)"]
        )
    }
}

extension Database.Outcome {
    fileprivate init(_ result: Result<Void, AMQPError>) {
        guard case .failure(let error) = result else {
            self = .sent
            return
        }
        switch error.cause {
        case .unencodable, .messageTooLarge, .invalidArgument: self = .refused("\(error)")
        default: self = .waits("\(error)")
        }
    }
}

extension Database.Outgoing {
    fileprivate var published: OutgoingMessage {
        OutgoingMessage(
            ByteBuffer(bytes: body),
            properties: MessageProperties(
                contentType: "application/json",
                deliveryMode: .persistent,
                messageID: id,
                timestamp: UInt64(Date.now.timeIntervalSince1970)
            ),
            routingKey: queue,
            // A missing queue is an error; no message is lost.
            mandatory: true
        )
    }
}
