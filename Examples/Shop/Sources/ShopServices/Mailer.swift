package import AMQPPool
package import Logging
package import QueueWorkers
package import ShopContract
package import Supervision

/// Sends letters. This implementation writes a log line, and refuses invalid addresses.
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
    /// A letter is attempted four times within about eleven minutes, and then parked in `shop.mails.failed`.
    package static let retry = WorkerRetry.after([.seconds(10), .minutes(1), .minutes(10)], then: .park)

    package static var configuration: WorkerConfiguration {
        var configuration = WorkerConfiguration()
        configuration.concurrency = 5
        // An order that was sent twice gets one letter.
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
