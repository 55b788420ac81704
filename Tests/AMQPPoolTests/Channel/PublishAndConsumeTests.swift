import BrokerSupport
import NIOCore
import Testing

@testable import AMQPPool

/// Runs the body with a connection in a virtual host of its own.
func withConnection(
    _ configure: (inout ConnectionConfiguration) -> Void = { _ in },
    _ body: @escaping @Sendable (AMQPConnection) async throws -> Void
) async throws {
    var configuration = ConnectionConfiguration(name: "test")
    configuration.connectTimeout = .seconds(60)
    configuration.operationTimeout = .seconds(60)
    configuration.closeTimeout = .seconds(60)
    configure(&configuration)
    let settings = configuration
    try await TestBroker.withVirtualHost { _, url, _ in
        let connection = try await AMQPConnection.open(try Endpoint(url: url), configuration: settings)
        do {
            try await body(connection)
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }
}

@Suite("Publishing and consuming")
struct PublishAndConsumeTests {
    @Test("A message that was published and confirmed is delivered with its properties, and acknowledged")
    func publishConsume() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q", durable: true)
            let deliveries = Recorder<Delivery>()
            let tag = try await channel.consume(queue: "q", onDelivery: { deliveries.append($0) })
            try await channel.publish(
                ByteBuffer(string: "hello"),
                properties: MessageProperties(headers: ["answer": 42], messageID: "m1"),
                routingKey: "q"
            )
            let delivery = try await deliveries.wait(for: 1)[0]
            #expect(String(buffer: delivery.body) == "hello")
            #expect(delivery.properties.messageID == "m1")
            #expect(delivery.properties.headers["answer"] == .int64(42))
            #expect(delivery.consumerTag == tag)
            channel.acknowledge(delivery.deliveryTag)
            try await channel.cancel(tag)
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 0)
            await channel.close()
            let second = try await connection.openChannel()
            #expect(try await second.declareQueue("q", passive: true).messageCount == 0)
        }
    }

    @Test(
        "A body of any size arrives whole",
        arguments: [0, 1, 131_064 - 1, 131_064, 131_064 + 1, 2 * 131_064, 1 << 20]
    )
    func sizes(_ size: Int) async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let deliveries = Recorder<Delivery>()
            _ = try await channel.consume(queue: "q", noAck: true, onDelivery: { deliveries.append($0) })
            let body = ByteBuffer(bytes: (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            try await channel.publish(body, routingKey: "q")
            #expect(try await deliveries.wait(for: 1)[0].body == body)
        }
    }

    @Test("Of a full queue all that the prefetch allows is delivered, also what comes close behind consume-ok")
    func fullQueue() async throws {
        try await withConnection { connection in
            let publisher = try await connection.openChannel()
            try await publisher.declareQueue("q")
            try await publisher.selectConfirms()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<1500 {
                    group.addTask { try await publisher.publish(ByteBuffer(integer: number), routingKey: "q") }
                }
                try await group.waitForAll()
            }
            for round in 0..<100 {
                let channel = try await connection.openChannel()
                try await channel.setPrefetch(1000)
                let deliveries = Recorder<UInt64>()
                try await channel.consume(queue: "q") { deliveries.append($0.deliveryTag) }
                #expect(try await deliveries.wait(for: 1000) == Array(1...1000), "round \(round)")
                // Closing it gives all of them back.
                await channel.close()
            }
        }
    }

    @Test("A body over the limit is refused before anything is sent, and the channel goes on")
    func tooLarge() async throws {
        try await withConnection({ $0.maximumMessageSize = 1000 }) { connection in
            let channel = try await connection.openChannel()
            let error = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(repeating: 0, count: 1001), routingKey: "q")
            }
            guard case .notSent(.messageTooLarge(1001, 1000)) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await channel.publish(ByteBuffer(repeating: 0, count: 1000), routingKey: "q")
        }
    }

    @Test("A property that cannot be encoded is refused, and the channel and its confirms go on")
    func unencodable() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let tooLong = MessageProperties(correlationID: String(repeating: "é", count: 128))
            let error = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), properties: tooLong, routingKey: "q")
            }
            guard case .notSent(.unencodable(.shortStringTooLong)) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await channel.publish(ByteBuffer(), routingKey: "q", mandatory: true)
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 1)
            let name = String(repeating: "x", count: 300)
            let refused = await failure { () async throws(AMQPError) in try await channel.declareQueue(name) }
            #expect(refused?.isRetrySafe == true)
            try await channel.declareQueue("after")
        }
    }

    @Test("A mandatory message that no queue takes is returned; one that a queue takes is confirmed")
    func returned() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let error = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(string: "lost"), routingKey: "nowhere", mandatory: true)
            }
            guard case .returned(312, "NO_ROUTE", "", "nowhere") = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await channel.publish(ByteBuffer(string: "found"), routingKey: "q", mandatory: true)
            #expect(await channel.unmatchedReturns == 0)
            #expect(await channel.unconfirmed == 0)
        }
    }

    @Test("Of many messages submitted at once each gets exactly its own outcome, returned or confirmed")
    func manyOutcomes() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.selectConfirms()
            let outcomes = Recorder<(Int, PublishOutcome)>()
            for number in 0..<2000 {
                let isRoutable = number % 3 > 0
                channel.submit(
                    Publish(
                        exchange: "",
                        routingKey: isRoutable ? "q" : "nowhere",
                        mandatory: true,
                        properties: MessageProperties(messageID: number % 2 == 0 ? "\(number)" : nil),
                        body: ByteBuffer(integer: number),
                        outcome: { outcomes.append((number, $0)) }
                    )
                )
            }
            let results = try await outcomes.wait(for: 2000)
            #expect(Set(results.map(\.0)).count == 2000)
            for (number, outcome) in results {
                switch outcome {
                case .confirmed: #expect(number % 3 > 0)
                case .returned(312, _): #expect(number % 3 == 0)
                default: Issue.record("\(number): \(outcome)")
                }
            }
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 1333)
            #expect(outcomes.values.count == 2000)
        }
    }

    @Test(
        "On a channel without confirms a message ends when it is sent; one that no queue takes comes back by its properties"
    )
    func withoutConfirms() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let returned = Recorder<String?>()
            await channel.onReturn { returned.append($0.messageID) }
            let outcomes = Recorder<PublishOutcome>()
            for (number, queue) in ["q", "nowhere", "q"].enumerated() {
                channel.submit(
                    Publish(
                        exchange: "",
                        routingKey: queue,
                        mandatory: true,
                        properties: MessageProperties(messageID: "\(number)"),
                        body: ByteBuffer(integer: number),
                        outcome: { outcomes.append($0) }
                    )
                )
            }
            for outcome in try await outcomes.wait(for: 3) {
                guard case .sent = outcome else {
                    Issue.record("\(outcome)")
                    continue
                }
            }
            #expect(try await returned.wait(for: 1) == ["1"])
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 2)
        }
    }

    @Test("The prefetch limits what is delivered and not acknowledged")
    func prefetch() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.setPrefetch(3)
            for number in 0..<10 { try await channel.publish(ByteBuffer(integer: number), routingKey: "q") }
            let deliveries = Recorder<Delivery>()
            _ = try await channel.consume(queue: "q", onDelivery: { deliveries.append($0) })
            let first = try await deliveries.wait(for: 3)
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 7)
            #expect(deliveries.values.count == 3)
            channel.acknowledge(first[2].deliveryTag, multiple: true)
            try await deliveries.wait(for: 6)
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 4)
        }
    }

    @Test("A rejected message comes again if it is requeued, and does not otherwise")
    func reject() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let deliveries = Recorder<Delivery>()
            _ = try await channel.consume(queue: "q", onDelivery: { deliveries.append($0) })
            try await channel.publish(ByteBuffer(string: "x"), routingKey: "q")
            channel.reject(try await deliveries.wait(for: 1)[0].deliveryTag, requeue: true)
            let again = try await deliveries.wait(for: 2)[1]
            #expect(again.redelivered)
            channel.reject(again.deliveryTag, requeue: false)
            await channel.close()
            let second = try await connection.openChannel()
            #expect(try await second.declareQueue("q", passive: true).messageCount == 0)
        }
    }

    @Test("A get answers with a message, or with none")
    func get() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            #expect(try await channel.get(queue: "q") == nil)
            try await channel.publish(ByteBuffer(string: "x"), routingKey: "q")
            let delivery = try await channel.get(queue: "q", noAck: true)
            #expect(delivery.map { String(buffer: $0.body) } == "x")
            #expect(try await channel.get(queue: "q") == nil)
        }
    }

    @Test("When the queue is deleted the consumer hears of it")
    func serverCancel() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let cancels = Recorder<Int>()
            let tag = try await channel.consume(
                queue: "q",
                onDelivery: { _ in },
                onCancel: { cancels.append(1) }
            )
            let other = try await connection.openChannel()
            try await other.deleteQueue("q")
            try await cancels.wait(for: 1)
            try await channel.cancel(tag)
            try await channel.declareQueue("q")
        }
    }

    @Test("A consumer tag that is in use is refused here: the broker would close the connection")
    func tagInUse() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            _ = try await channel.consume(queue: "q", tag: "t", onDelivery: { _ in })
            let error = await failure { () async throws(AMQPError) in
                try await channel.consume(queue: "q", tag: "t", onDelivery: { _ in })
            }
            guard case .notSent(.invalidArgument) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await channel.cancel("t")
            _ = try await channel.consume(queue: "q", tag: "t", onDelivery: { _ in })
        }
    }

    @Test("Exchanges are bound to queues and to one another, also by headers")
    func topology() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareExchange("source", type: .fanout, autoDelete: false)
            try await channel.declareExchange("rpc", type: .headers, durable: true)
            try await channel.bindExchange("rpc", to: "source")
            try await channel.declareQueue("q")
            try await channel.bindQueue("q", to: "rpc", arguments: ["destination": "math"])
            try await channel.publish(
                ByteBuffer(),
                properties: MessageProperties(headers: ["destination": "math"]),
                exchange: "source",
                routingKey: ""
            )
            #expect(try await channel.purgeQueue("q") == 1)
            try await channel.unbindQueue("q", from: "rpc", arguments: ["destination": "math"])
            try await channel.unbindExchange("rpc", from: "source")
            try await channel.deleteExchange("source")
            #expect(try await channel.deleteQueue("q") == 0)
        }
    }
}
