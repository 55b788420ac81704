import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

/// What brokers of some versions do otherwise than others. docs/compatibility.md tells of it.
@Suite("Brokers of every version")
struct BrokerVersionTests {
    private static let from4 = ConditionTrait.enabled("RabbitMQ 4.0 or later") {
        try await TestBroker.version() >= BrokerVersion(4, 0)
    }

    @Test(
        "A quorum queue gives a message up after twenty deliveries more, unless it has no limit",
        from4,
        arguments: [nil, -1, 2]
    )
    func deliveryLimit(_ limit: Int?) async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("dead", durable: true)
            var arguments = QueueArguments(type: .quorum)
            arguments.deliveryLimit = limit
            arguments.deadLetterExchange = ""
            arguments.deadLetterRoutingKey = "dead"
            try await channel.declareQueue("q", arguments: arguments)
            // What it refuses while it elects its leader.
            try await eventually("it takes a message") {
                await failure { () async throws(AMQPError) in
                    try await channel.publish(ByteBuffer(), routingKey: "q", mandatory: true)
                } == nil
            }
            let deliveries = Recorder<Int>()
            try await channel.consume(queue: "q") { [weak channel] delivery in
                deliveries.append(1)
                // With no limit it would go on and on.
                if deliveries.values.count > 50 { channel?.acknowledge(delivery.deliveryTag) }
                channel?.reject(delivery.deliveryTag, requeue: true)
            }
            let expected = limit == -1 ? 51 : (limit ?? 20) + 1
            try await deliveries.wait(for: expected)
            if limit != -1 {
                try await eventually("it is dead-lettered") {
                    try await channel.declareQueue("dead", passive: true).messageCount == 1
                }
            }
            #expect(deliveries.values.count == expected)
        }
    }

    @Test("A message that is handled longer than the broker's consumer timeout comes again, and others are served")
    func consumerTimeout() async throws {
        var options = TestBroker.options
        options.configuration = "consumer_timeout = 3000"
        try await TestBroker.own(options) { broker in
            let pool = try RunningConsumer.pool(broker.url)
            var configuration = RunningConsumer.quick()
            configuration.handlerTimeLimit = nil
            configuration.concurrency = 2
            configuration.drainTimeout = .seconds(1)
            let slow = Recorder<Bool>()
            let quick = Recorder<String>()
            let root = Supervisor("app", intensity: RestartIntensity(1000, within: .seconds(1))) {
                pool.supervisor
                Child.consumer("consumer", of: "q", on: pool, configuration: configuration) { channel in
                    try await channel.declareQueue("q", arguments: QueueArguments(type: .quorum))
                } handler: { delivery in
                    guard delivery.text == "slow" else { return quick.append(delivery.text) }
                    slow.append(delivery.redelivered)
                    // The second time it is quick enough.
                    if slow.values.count == 1 { try await Task.sleep(for: .seconds(600)) }
                }
            }
            try await root.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await eventually("the queue is there") { try await broker.consumers().count == 1 }
            try await eventually("it takes a message") {
                await failure { () async throws(AMQPError) in
                    try await pool.publish(ByteBuffer(string: "slow"), routingKey: "q", mandatory: true)
                } == nil
            }
            try await slow.wait(for: 1)
            var number = 0
            while slow.values.count < 2 {
                number += 1
                let text = "\(number)"
                try await pool.publish(ByteBuffer(string: text), routingKey: "q", mandatory: true)
                try await quick.wait { $0.contains(text) }
                if number > 3000 { break }
                try await Task.sleep(for: .milliseconds(20))
            }
            #expect(slow.values == [false, true])
            try await eventually("nothing is left") { try await broker.queue("q")?.messages == 0 }
            await root.stop()
        }
    }

    @Test(
        "A broker that denies queues that are neither durable nor exclusive says so to whoever declares one, and a pool gives up with its words",
        from4
    )
    func transientQueues() async throws {
        var options = TestBroker.options
        // As RabbitMQ 4.3 and later are shipped; Debian's packages permit them.
        options.configuration = "deprecated_features.permit.transient_nonexcl_queues = false"
        try await TestBroker.own(options) { broker in
            let endpoint = try Endpoint(url: broker.url)
            var settings = ConnectionConfiguration()
            settings.connectTimeout = .seconds(60)
            settings.operationTimeout = .seconds(60)
            let connection = try await AMQPConnection.open(endpoint, configuration: settings)
            let channel = try await connection.openChannel()
            // What this package declares itself, and by default.
            try await channel.declareQueue("durable")
            try await channel.declareQueue("exclusive", durable: false, exclusive: true)
            let error = await failure { () async throws(AMQPError) in
                try await channel.declareQueue("transient", durable: false)
            }
            guard case .topologyRefused("queue.declare of \"transient\"", 541, let text) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(text.contains("transient_nonexcl_queues"))
            await connection.close()

            var configuration = PoolConfiguration(endpoints: [endpoint])
            configuration.connection = settings
            configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
            let pool = AMQPPool(configuration: configuration) { channel in
                try await channel.declareQueue("transient", durable: false)
            }
            do {
                try await within(.seconds(60)) { try await pool.run() }
                Issue.record("ended without an error")
            } catch {
                #expect("\(error)".contains("queue.declare of \"transient\""), "\(error)")
                #expect("\(error)".contains("transient_nonexcl_queues"), "\(error)")
            }
        }
    }

    @Test(
        "The smallest frames that a broker takes carry messages and headers, also when smaller ones are asked for",
        arguments: [UInt32(0), 4096, 8192]
    )
    func smallFrames(_ size: UInt32) async throws {
        try await withConnection({ $0.maximumFrameSize = size }) { connection in
            #expect(connection.broker.maximumFrameSize == 8192)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            // Less than a frame, exactly one, one byte more, and many.
            for count in [0, 8184, 8185, 100_000] {
                let headers: FieldTable = ["text": .string(String(repeating: "h", count: 7000))]
                try await channel.publish(
                    ByteBuffer(repeating: 1, count: count),
                    properties: MessageProperties(headers: headers),
                    routingKey: "q",
                    mandatory: true
                )
                let message = try await channel.get(queue: "q", noAck: true)
                #expect(message?.body.readableBytes == count)
                #expect(message?.properties.headers == headers)
            }
        }
    }

    @Test("A declaration that a broker does not take any more is refused with its words, and the others go on")
    func refusedDeclarations() async throws {
        try await withConnection { connection in
            // Priorities of quorum queues are not declared, on any version.
            let channel = try await connection.openChannel()
            let error = await failure { () async throws(AMQPError) in
                try await channel.declareQueue(
                    "q",
                    durable: true,
                    arguments: ["x-queue-type": "quorum", "x-max-priority": 3]
                )
            }
            #expect(error?.replyCode == 406, "\(String(describing: error))")
            #expect("\(String(describing: error))".contains("x-max-priority"))
            let other = try await connection.openChannel()
            try await other.declareQueue("q", arguments: QueueArguments(type: .quorum))
        }
    }
}
