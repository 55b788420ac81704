import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

@Suite("Publishing many messages at once")
struct PublishManyTests {
    private func withPool(
        change: (inout PoolConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (AMQPPool, LocalBroker, String) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connection.operationTimeout = .seconds(60)
            configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(50))
            change(&configuration)
            let pool = AMQPPool(configuration: configuration) { channel in
                _ = try await channel.declareQueue("q", durable: true)
            }
            try await pool.start()
            do {
                try await body(pool, broker, virtualHost)
            } catch {
                await pool.stop()
                throw error
            }
            await pool.stop()
        }
    }

    private func message(_ text: String, exchange: String = "", to key: String = "q") -> OutgoingMessage {
        OutgoingMessage(ByteBuffer(string: text), exchange: exchange, routingKey: key, mandatory: true)
    }

    private func failures(_ results: [Result<Void, AMQPError>]) -> [Int: AMQPError] {
        var failures: [Int: AMQPError] = [:]
        for (index, result) in results.enumerated() {
            if case .failure(let error) = result { failures[index] = error }
        }
        return failures
    }

    /// What is in the queue, in its order.
    private func contents(_ pool: AMQPPool, _ count: Int, queue: String = "q") async throws -> [String] {
        try await pool.withDedicatedChannel { channel in
            var texts: [String] = []
            while texts.count < count, let delivery = try await channel.get(queue: queue) {
                texts.append(String(buffer: delivery.body))
            }
            return texts
        }
    }

    @Test("No messages have no outcomes")
    func none() async throws {
        let pool = AMQPPool(endpoints: [])
        #expect(await pool.publish(contentsOf: []).isEmpty)
    }

    @Test("All are confirmed, and stand in the queue in their order")
    func all() async throws {
        try await withPool { pool, _, _ in
            let results = await pool.publish(contentsOf: (0..<1000).map { message("\($0)") })
            #expect(results.count == 1000)
            #expect(failures(results).isEmpty)
            let arrived = try await contents(pool, 1001)
            #expect(arrived == (0..<1000).map(String.init))
        }
    }

    @Test("More than a channel has room for is sent as there is room, in its order")
    func moreThanRoom() async throws {
        try await withPool(change: {
            $0.connections = 1
            $0.connection.maximumOutboxEntries = 7
            $0.connection.maximumUnconfirmed = 3
        }) { pool, _, _ in
            let results = await pool.publish(contentsOf: (0..<500).map { message("\($0)") })
            #expect(failures(results).isEmpty)
            let arrived = try await contents(pool, 501)
            #expect(arrived == (0..<500).map(String.init))
        }
    }

    @Test(
        "Each has its own outcome: those that cannot be sent, that no queue takes, that are too large, stop none of the others"
    )
    func ownOutcomes() async throws {
        try await withPool(change: { $0.connection.maximumMessageSize = 100 }) { pool, _, _ in
            var messages = (0..<10).map { message("\($0)") }
            messages[2] = message("nobody", to: "nowhere")
            messages[4] = message(String(repeating: "x", count: 101))
            messages[6] = message("name", to: String(repeating: "x", count: 300))
            messages[8].properties.headers = ["CC": .string("no array")]
            let failures = failures(await pool.publish(contentsOf: messages))
            #expect(failures.keys.sorted() == [2, 4, 6, 8])
            guard case .returned(312, _, "", "nowhere") = failures[2],
                case .notSent(.messageTooLarge(101, 100)) = failures[4],
                case .notSent(.unencodable) = failures[6], case .notSent(.unencodable) = failures[8]
            else {
                Issue.record("\(failures)")
                return
            }
            let arrived = try await contents(pool, 11)
            #expect(arrived == ["0", "1", "3", "5", "7", "9"])
        }
    }

    @Test("Those to an exchange that is missing fail at once and together, and the others arrive")
    func missingExchange() async throws {
        try await withPool { pool, _, _ in
            let start = ContinuousClock.now
            let messages = (0..<200).map { $0 % 2 == 0 ? message("\($0)") : message("\($0)", exchange: "missing") }
            let failures = failures(await pool.publish(contentsOf: messages, timeout: .seconds(120)))
            #expect(failures.keys.sorted() == Array(stride(from: 1, to: 200, by: 2)))
            for error in failures.values { #expect(error.replyCode == 404) }
            let arrived = try await contents(pool, 101)
            #expect(arrived == stride(from: 0, to: 200, by: 2).map(String.init))
            // One refusal after another, with a pause of a second each, would take longer than the timeout.
            #expect(ContinuousClock.now - start < .seconds(90))
        }
    }

    @Test("A channel that is closed while they are under way leaves no outcome open, and sends none of them twice")
    func channelLost() async throws {
        try await withPool(change: { $0.connections = 1 }) { pool, _, _ in
            for _ in 1...4 {
                let publishing = Task {
                    await pool.publish(contentsOf: (0..<1000).map { message("\($0)") })
                }
                try await pool.withChannel { channel in await channel.connection.close() }
                let results = await publishing.value
                #expect(results.count == 1000)
                let failed = failures(results)
                for error in failed.values {
                    guard case .unconfirmed = error else {
                        Issue.record("\(error)")
                        continue
                    }
                }
                let arrived = try await contents(pool, 4000).compactMap(Int.init)
                #expect(Set(arrived).count == arrived.count)
                #expect(Set(0..<1000).subtracting(failed.keys).isSubset(of: arrived))
                try await pool.withChannel { channel in try await channel.purgeQueue("q") }
            }
        }
    }

    @Test("The one timeout ends all of them: a pool without a broker says of each that it was not sent")
    func withoutBroker() async throws {
        let pool = AMQPPool(endpoints: [try Endpoint(url: "amqp://127.0.0.1:1")])
        try await pool.start()
        let results = await pool.publish(contentsOf: (0..<50).map { message("\($0)") }, timeout: .milliseconds(100))
        #expect(results.count == 50)
        for result in results {
            guard case .failure(.notSent) = result else {
                Issue.record("\(result)")
                continue
            }
        }
        await pool.stop()
    }

    @Test("A cancelled task hears at once, what is written is in doubt and the rest not sent")
    func cancelled() async throws {
        try await withPool(change: { $0.connection.maximumUnconfirmed = 1 }) { pool, _, _ in
            let publishing = Task { await pool.publish(contentsOf: (0..<5000).map { message("\($0)") }) }
            try await eventually("some are in the queue") {
                try await pool.withChannel { try await $0.declareQueue("q", passive: true).messageCount } > 0
            }
            publishing.cancel()
            let failures = failures(await publishing.value)
            for error in failures.values {
                switch error {
                case .notSent(.cancelled), .unconfirmed(.cancelled): break
                default: Issue.record("\(error)")
                }
            }
            // The channel goes on.
            #expect(self.failures(await pool.publish(contentsOf: [message("after")])).isEmpty)
        }
    }

    @Test("The broker's refusal of a full queue is that of each message")
    func nacked() async throws {
        try await withPool { pool, _, _ in
            try await pool.withChannel { channel in
                _ = try await channel.declareQueue(
                    "small",
                    durable: true,
                    arguments: ["x-max-length": .int32(3), "x-overflow": .string("reject-publish")]
                )
            }
            let failures = failures(await pool.publish(contentsOf: (0..<20).map { message("\($0)", to: "small") }))
            for error in failures.values {
                guard case .nacked = error else {
                    Issue.record("\(error)")
                    continue
                }
            }
            #expect(failures.count >= 16)
        }
    }
}
