import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

/// When `Delivery.redelivered` can be relied on: this is the broker's doing, and nothing but a channel is between it and these tests.
@Suite("The broker's mark of redelivered messages")
struct RedeliveredMarkTests {
    /// RabbitMQ 3.10 to 4.2 keep one number for each classic queue: all messages before it have been delivered. It grows when the message
    /// with this number is delivered, so it never grows again when that message is lost: it was not persistent, it was still waiting, and
    /// the broker was restarted. A broker that was killed begins with the number of the last message.
    private static func forgets(_ version: BrokerVersion) -> Bool {
        version >= BrokerVersion(3, 10) && version < BrokerVersion(4, 3)
    }

    @Test(
        "It survives a graceful restart; in a classic queue of 3.10 to 4.2 that lost a waiting message by it, later messages have none, until the broker is killed"
    )
    func gracefulRestart() async throws {
        try await TestBroker.own { broker in
            let forgets = Self.forgets(await broker.version)
            let endpoint = try Endpoint(url: broker.url)
            var connection = try await AMQPConnection.open(endpoint)
            var channel = try await connection.openChannel()
            for queue in ["closed", "requeued", "held", "loses one", "loses all"] {
                try await channel.declareQueue(queue, durable: true)
            }
            try await publish(.persistent, to: "closed", on: channel)
            #expect(try await isMarked("closed", on: channel) == false)
            await connection.close()

            connection = try await AMQPConnection.open(endpoint)
            channel = try await connection.openChannel()
            try await publish(.persistent, to: "requeued", on: channel)
            #expect(try await isMarked("requeued", on: channel, requeue: true) == false)
            #expect(try await isMarked("requeued", on: channel, requeue: true) == true)
            try await publish(.persistent, to: "held", on: channel)
            #expect(try await isMarked("held", on: channel) == false)
            // One message has been delivered when the other one is lost.
            try await publish(.persistent, to: "loses one", on: channel)
            #expect(try await isMarked("loses one", on: channel) == false)
            try await publish(.transient, to: "loses one", on: channel)
            try await publish(.transient, to: "loses all", on: channel)

            await broker.stop()
            try await broker.startAgain()
            connection = try await AMQPConnection.open(endpoint)
            channel = try await connection.openChannel()
            for queue in ["closed", "requeued", "held", "loses one"] {
                #expect(try await isMarked(queue, on: channel, requeue: true) == true, "\(queue)")
            }
            #expect(try await channel.get(queue: "loses all") == nil)
            for queue in ["closed", "requeued", "held", "loses one"] {
                #expect(try await channel.get(queue: queue, noAck: true)?.redelivered == true)
                #expect(try await channel.get(queue: queue, noAck: true) == nil)
            }
            // Messages that were published after the restart. The second round is not different: it stays so.
            for _ in 0..<2 {
                for queue in ["closed", "requeued", "held"] {
                    #expect(try await marks(queue, on: channel) == [false, true], "\(queue)")
                }
                for queue in ["loses one", "loses all"] {
                    #expect(try await marks(queue, on: channel) == [false, !forgets], "\(queue)")
                }
                #expect(Set(try await broker.queuesWithoutMarks()) == (forgets ? ["loses one", "loses all"] : []))
            }

            try await broker.kill()
            try await broker.startAgain()
            connection = try await AMQPConnection.open(endpoint)
            channel = try await connection.openChannel()
            for queue in ["closed", "requeued", "held", "loses one", "loses all"] {
                // Acknowledgements that were not on disk yet are lost, so that old messages come again.
                while try await channel.get(queue: queue, noAck: true) != nil {}
                #expect(try await marks(queue, on: channel) == [false, true], "\(queue)")
            }
            #expect(try await broker.queuesWithoutMarks() == [])
            await connection.close()
        }
    }

    @Test("A consumer gives a message up that the broker does not mark, by its id", arguments: [false, true])
    func consumer(gracefully: Bool) async throws {
        try await TestBroker.own { broker in
            let endpoint = try Endpoint(url: broker.url)
            let policies: [(queue: String, policy: DeliveryFailurePolicy, attempts: Int)] = [
                ("once", .requeueOnce, 2), ("thrice", .deadLetterAfter(3), 3),
            ]
            let deadLetters: FieldTable = ["x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"]
            let declare = { @Sendable (channel: AMQPChannel) in
                try await channel.declareQueue("dead", durable: true)
                for (queue, _, _) in policies {
                    try await channel.declareQueue(queue, durable: true, arguments: deadLetters)
                }
            }
            var connection = try await AMQPConnection.open(endpoint)
            var channel = try await connection.openChannel()
            try await declare(channel)
            for (queue, _, _) in policies { try await publish(.transient, to: queue, on: channel) }
            if gracefully { await broker.stop() } else { try await broker.kill() }
            try await broker.startAgain()
            let forgets = Self.forgets(await broker.version)
            connection = try await AMQPConnection.open(endpoint)
            channel = try await connection.openChannel()
            // A broker that is killed can lose what has just been declared.
            try await declare(channel)
            #expect(try await broker.queuesWithoutMarks().isEmpty == !(forgets && gracefully))

            let pool = try RunningConsumer.pool(broker.url)
            let failed = Recorder<String>()
            let root = Supervisor("app") {
                pool.supervisor
                for (queue, policy, _) in policies {
                    Child.consumer(queue, of: queue, on: pool, configuration: consuming(policy)) { delivery in
                        failed.append("\(queue) \(delivery.redelivered)")
                        throw Poison()
                    }
                }
            }
            try await root.start()
            // The second time with the same id: what has been given up is forgotten.
            for round in 1...2 {
                for (queue, _, _) in policies {
                    try await channel.publish(
                        ByteBuffer(string: queue),
                        properties: MessageProperties(deliveryMode: .persistent, messageID: "1"),
                        routingKey: queue,
                        mandatory: true
                    )
                }
                try await eventually("dead letters") {
                    try await broker.queue("dead")?.messages == round * policies.count
                }
            }
            for (queue, _, attempts) in policies {
                #expect(failed.values.filter { $0.hasPrefix(queue) }.count == 2 * attempts, "\(failed.values)")
                #expect(failed.values.contains("\(queue) true") == !(forgets && gracefully))
            }
            await root.stop()
            await connection.close()
        }
    }

    private func consuming(_ policy: DeliveryFailurePolicy) -> ConsumerConfiguration {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = policy
        return configuration
    }

    private func publish(_ mode: DeliveryMode, to queue: String, on channel: AMQPChannel) async throws {
        try await channel.publish(
            ByteBuffer(string: queue),
            properties: MessageProperties(deliveryMode: mode),
            routingKey: queue,
            mandatory: true
        )
    }

    /// Whether the next message of a queue is marked. It stays unacknowledged or goes back.
    private func isMarked(_ queue: String, on channel: AMQPChannel, requeue: Bool = false) async throws -> Bool {
        let delivery = try #require(try await channel.get(queue: queue))
        if requeue { channel.reject(delivery.deliveryTag, requeue: true) }
        return delivery.redelivered
    }

    /// The marks of the two deliveries of a new message.
    private func marks(_ queue: String, on channel: AMQPChannel) async throws -> [Bool] {
        try await publish(.persistent, to: queue, on: channel)
        let first = try await isMarked(queue, on: channel, requeue: true)
        let second = try #require(try await channel.get(queue: queue, noAck: true))
        return [first, second.redelivered]
    }
}
