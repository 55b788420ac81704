import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

@Suite("A message that cannot be handled")
struct FailurePolicyTests {
    private static let deadLetters: FieldTable = [
        "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead",
    ]

    /// Consumes one message that always fails, and one that does not, with this policy.
    private func attempts(
        _ policy: DeliveryFailurePolicy,
        quorum: Bool = false,
        until count: Int,
        deadLetters: Int,
        stays: Bool = false
    ) async throws -> [Delivery] {
        var configuration = RunningConsumer.quick()
        configuration.onFailure = policy
        var arguments = Self.deadLetters
        if quorum { arguments["x-queue-type"] = "quorum" }
        let failed = Recorder<Delivery>()
        let handled = Recorder<String>()
        try await RunningConsumer.run(
            configuration,
            arguments: arguments,
            handler: { delivery in
                guard delivery.text == "poison" else { return handled.append(delivery.text) }
                failed.append(delivery)
                throw Poison()
            }
        ) { app in
            try await app.pool.withChannel { _ = try await $0.declareQueue("dead", durable: true) }
            try await app.publish("poison", "good", properties: MessageProperties(messageID: "1"))
            try await failed.wait(for: count)
            try await handled.wait(for: 1)
            if !stays { try await app.empty() }
            try await eventually("\(deadLetters) dead letters") {
                try await app.broker.queue("dead", virtualHost: app.virtualHost)?.messages == deadLetters
            }
            #expect(app.opened.values.count == 1)
        }
        return failed.values
    }

    @Test("A flood of messages that cannot be handled does not fill the log", arguments: [false, true])
    func flood(undecodable: Bool) async throws {
        let lines = CountedLines()
        let failed = Recorder<Void>()
        var configuration = RunningConsumer.quick()
        configuration.onFailure = .reject
        try await RunningConsumer.run(
            configuration,
            logger: lines.logger,
            handler: { _ in
                failed.append(())
                if undecodable { throw UndecodableMessage(reason: Poison()) }
                throw Poison()
            }
        ) { app in
            for number in 0..<200 { try await app.publish("\(number)") }
            try await failed.wait(for: 200)
            try await app.empty()
        }
        // Besides what is said of the tree, twice as much where it took longer than ten seconds.
        #expect(lines.count < 60, "\(lines.count)")
    }

    @Test("It is acknowledged")
    func ack() async throws {
        #expect(try await attempts(.ack, until: 1, deadLetters: 0).count == 1)
    }

    @Test("It is rejected, and dead-lettered")
    func reject() async throws {
        #expect(try await attempts(.reject, until: 1, deadLetters: 1).count == 1)
    }

    @Test("It is requeued once, then rejected", arguments: [false, true])
    func requeueOnce(_ quorum: Bool) async throws {
        let attempts = try await attempts(.requeueOnce, quorum: quorum, until: 2, deadLetters: 1)
        #expect(attempts.map(\.redelivered) == [false, true])
    }

    @Test("It is requeued for ever, with the backoff between two attempts", arguments: [false, true])
    func requeue(_ quorum: Bool) async throws {
        let begun = ContinuousClock.now
        _ = try await attempts(.requeue, quorum: quorum, until: 12, deadLetters: 0, stays: true)
        // 5, 10, and then 20 ms each, at least.
        #expect(begun.duration(to: .now) >= .milliseconds(15 + 9 * 20))
    }

    @Test("It is dead-lettered after as many attempts as the policy says", arguments: [1, 2, 3, 6], [false, true])
    func deadLetterAfter(_ limit: Int, _ quorum: Bool) async throws {
        let attempts = try await attempts(.deadLetterAfter(limit), quorum: quorum, until: limit, deadLetters: 1)
        #expect(attempts.count == limit)
        #expect(attempts.allSatisfy { $0.properties.messageID == "1" })
    }

    @Test("A consumer of a type rejects what cannot be decoded, whatever the policy")
    func undecodable() async throws {
        try await RunningConsumer.run(arguments: Self.deadLetters, handler: { _ in }) { app in
            try await app.pool.withChannel { channel in
                _ = try await channel.declareQueue("dead", durable: true)
                _ = try await channel.declareQueue("numbers", arguments: Self.deadLetters)
            }
            var configuration = RunningConsumer.quick()
            configuration.onFailure = .requeue
            let numbers = Recorder<Int>()
            let root = Supervisor("numbers") { [configuration] in
                Child.consumer("numbers", of: "numbers", on: app.pool, configuration: configuration) { delivery in
                    guard let number = Int(delivery.text) else { throw Poison() }
                    return number
                } handler: { (number: Int, _) in
                    numbers.append(number)
                }
            }
            try await root.start()
            for text in ["1", "two", "3"] {
                try await app.pool.publish(ByteBuffer(string: text), routingKey: "numbers")
            }
            try await numbers.wait(for: 2)
            try await eventually("a dead letter") {
                try await app.broker.queue("dead", virtualHost: app.virtualHost)?.messages == 1
            }
            #expect(numbers.values.sorted() == [1, 3])
            await root.stop()
        }
    }

    @Test("A count is believed only where the broker writes it")
    func counts() {
        func attempts(
            _ header: FieldValue?,
            redelivered: Bool,
            wasRequeued: Bool = false,
            from type: QueueArguments.QueueType? = nil
        ) -> DeliveryAttempts {
            var delivery = Delivery.sample("", redelivered: redelivered)
            delivery.properties.headers["x-delivery-count"] = header
            delivery.properties.headers["x-attempts"] = header
            return DeliveryAttempts(delivery, from: type, wasRequeued: wasRequeued)
        }
        for type in [QueueArguments.QueueType.classic, .stream] {
            #expect(attempts(.int64(50), redelivered: false, from: type).number == 1)
            #expect(attempts(.int64(50), redelivered: true, from: type).number == 2)
        }
        // The broker does not write it at the first delivery, whatever the queue.
        #expect(attempts(.int64(50), redelivered: false, from: .quorum).number == 1)
        #expect(attempts(.int64(50), redelivered: false).number == 1)
        #expect(attempts(.int64(50), redelivered: false).isForged)
        #expect(attempts(.int64(3), redelivered: true, from: .quorum).number == 4)
        #expect(attempts(.int64(3), redelivered: true).number == 4)
        // From RabbitMQ 4.3 on: given back untried, which counts for nothing.
        #expect(attempts(nil, redelivered: true, from: .quorum).number == 1)
        for nonsense: FieldValue in [.int64(.max), .uint64(.max), .int64(-1), "many"] {
            #expect(attempts(nonsense, redelivered: true).number == 2)
            #expect(!attempts(nonsense, redelivered: true).isCounted)
        }
        // Not marked, but known here.
        for type in [QueueArguments.QueueType.classic, nil] {
            #expect(attempts(nil, redelivered: false, wasRequeued: true, from: type).number == 2)
            #expect(!attempts(nil, redelivered: false, wasRequeued: true, from: type).isCounted)
        }
        #expect(attempts(nil, redelivered: false, wasRequeued: true, from: .quorum).number == 1)
    }

    @Test("What a quorum queue redelivers without a count has not been tried, and is requeued once")
    func untried() {
        func decide(_ count: FieldValue?, from type: QueueArguments.QueueType?) -> Disposition {
            var delivery = Delivery.sample("", redelivered: true)
            delivery.properties.headers["x-delivery-count"] = count
            let attempts = DeliveryAttempts(delivery, from: type, wasRequeued: false)
            return DeliveryFailurePolicy.requeueOnce.decide(
                failed: attempts,
                attempt: attempts.number,
                redelivered: true,
                from: type,
                failuresInRow: 1
            ) { _ in .zero }
        }
        #expect("\(decide(nil, from: .quorum))" == "\(Disposition.requeue(after: .zero))")
        #expect("\(decide(.int64(1), from: .quorum))" == "\(Disposition.reject)")
        // A count that anybody may have written.
        for type in [QueueArguments.QueueType.classic, nil] {
            #expect("\(decide(.int64(0), from: type))" == "\(Disposition.reject)")
            #expect("\(decide(nil, from: type))" == "\(Disposition.reject)")
        }
    }

    @Test("A consumer remembers what it has requeued, with a limit, and forgets what does not come again")
    func requeued() {
        func message(_ id: String?, _ text: String = "") -> Delivery {
            var delivery = Delivery.sample(text)
            delivery.properties.messageID = id
            return delivery
        }
        let requeued = RequeuedMessages(limit: 3)
        #expect(!requeued.contains(message("1")))
        requeued.insert(message(nil))
        #expect(!requeued.contains(message(nil)))
        for id in ["1", "2", "3"] { requeued.insert(message(id)) }
        #expect(["1", "2", "3"].allSatisfy { requeued.contains(message($0)) })
        #expect(!requeued.contains(message("1", "another one")))
        // Inserted anew, "1" is the newest.
        requeued.remove(message("1"))
        #expect(!requeued.contains(message("1")))
        requeued.insert(message("1"))
        requeued.insert(message("4"))
        #expect(["1", "2", "3", "4"].map { requeued.contains(message($0)) } == [true, false, true, true])
        for id in ["1", "3", "4"] { requeued.remove(message(id)) }
        #expect(["1", "3", "4"].allSatisfy { !requeued.contains(message($0)) })
    }
}

extension Delivery {
    static func sample(_ text: String, redelivered: Bool = false) -> Delivery {
        Delivery(
            consumerTag: "",
            deliveryTag: 1,
            redelivered: redelivered,
            exchange: "",
            routingKey: "",
            properties: MessageProperties(),
            body: ByteBuffer(string: text)
        )
    }
}
