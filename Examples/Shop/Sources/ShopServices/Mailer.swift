package import AMQPPool
package import Logging
package import QueueWorkers
package import ShopContract
package import Supervision

/// Where letters go. The example's writes a line of the log, and refuses what cannot be an address.
package struct MailServer: Sendable {
    package struct Refused: Error, CustomStringConvertible {
        package var description: String { "the mail server refuses the address" }
    }

    private let logger: Logger

    package init(logger: Logger) { self.logger = logger }

    package func send(_ mail: Mail) async throws {
        guard !mail.to.hasSuffix("@refused.example") else { throw Refused() }
        logger.info("a letter is sent", metadata: ["order": "\(mail.order)"])
    }
}

package enum Mailer {
    /// A letter is tried four times, within about eleven minutes, and then kept in `shop.mails.failed`.
    package static let retry = WorkerRetry.after([.seconds(10), .minutes(1), .minutes(10)], then: .park)

    package static var configuration: WorkerConfiguration {
        var configuration = WorkerConfiguration()
        configuration.concurrency = 5
        // An order that was sent twice has one letter.
        configuration.deduplication = WorkerDeduplication()
        return configuration
    }

    package static func tree(on pool: AMQPPool, retry: WorkerRetry = retry, logger: Logger) -> Supervisor {
        let server = MailServer(logger: logger)
        return Supervisor("mailer", strategy: .restForOne, logger: logger) {
            pool.supervisor
            Child.worker(of: Mail.self, from: Mail.queue, on: pool, retry: retry, configuration: configuration) {
                mail,
                _ in
                try await server.send(mail)
            }
        }
    }
}
