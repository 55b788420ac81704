import AMQPPool
import LocalBroker
import Logging

/// The broker's own view of a queue.
struct BrokerView {
    let local: LocalBroker?
    let endpoints: [Endpoint]
    let logger: Logger

    /// The number of consumers of the queue; `nil` when the broker does not know it.
    func consumers(of queue: String) async throws -> Int? {
        if let local { return try await local.queue(queue)?.consumers }
        guard let endpoint = endpoints.first else { return nil }
        let connection = try await AMQPConnection.open(
            endpoint,
            configuration: ConnectionConfiguration(),
            logger: logger
        )
        do throws(AMQPError) {
            let channel = try await connection.openChannel()
            let status = try await channel.declareQueue(queue, passive: true)
            await connection.close()
            return Int(status.consumerCount)
        } catch {
            await connection.close()
            if error.replyCode == 404 { return nil }
            throw error
        }
    }

    /// Asks until the answer is as expected, or the time limit has passed; returns the last answer.
    func consumers(of queue: String, until isExpected: (Int?) -> Bool) async throws -> Int? {
        let deadline = ContinuousClock.now + .seconds(10)
        while true {
            let answer = try await consumers(of: queue)
            if isExpected(answer) || ContinuousClock.now >= deadline { return answer }
            try await Task.sleep(for: .milliseconds(50))
        }
    }
}
