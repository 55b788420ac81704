import BrokerSupport
import LocalBroker
import NIOCore
import Testing

@testable import AMQPPool

/// Publishes a message to `q` and waits for its confirm: then the queue has handled all that was routed to it before. (Its
/// answer to a declare overtakes the messages that wait.)
func confirmMarker(on channel: AMQPChannel) async throws {
    try await channel.publish(ByteBuffer(string: "marker"), routingKey: "q", mandatory: true)
}

@Suite("A connection to a broker")
struct ConnectionTests {
    @Test("It tells which broker it is to, and what was agreed on")
    func broker() async throws {
        try await withConnection({ ($0.maximumChannels, $0.heartbeat) = (7, .seconds(3)) }) { connection in
            #expect(connection.broker.product == "RabbitMQ")
            #expect(connection.broker.version?.contains(".") == true)
            #expect(connection.broker.maximumChannels == 7)
            #expect(connection.broker.heartbeat == .seconds(3))
            #expect((8192...131_072).contains(connection.broker.maximumFrameSize))
            #expect(connection.broker.connectedAt <= .now)
        }
    }

    @Test("Wrong credentials and a missing virtual host have errors of their own, with the broker's text")
    func refusals() async throws {
        try await TestBroker.withVirtualHost { broker, _, _ in
            let wrong = Endpoint(host: "127.0.0.1", port: broker.port, username: "guest", password: "s3cret")
            let refused = await failure { () async throws(AMQPError) in try await AMQPConnection.open(wrong) }
            guard case .authenticationFailed(_, let text) = refused else {
                Issue.record("\(String(describing: refused))")
                return
            }
            #expect(text.contains("ACCESS_REFUSED"))
            #expect(!String(reflecting: refused).contains("s3cret"))
            let missing = try Endpoint(url: broker.url(virtualHost: "missing"))
            let notFound = await failure { () async throws(AMQPError) in try await AMQPConnection.open(missing) }
            guard case .virtualHostRefused(_, "missing", 530, _) = notFound else {
                Issue.record("\(String(describing: notFound))")
                return
            }
        }
    }

    @Test("The broker knows the connection by its name, and sees it go when it is closed")
    func name() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let connection = try await AMQPConnection.open(
                Endpoint(url: url),
                configuration: ConnectionConfiguration(name: "named")
            )
            #expect(try await broker.connections(virtualHost: virtualHost).map(\.clientName) == ["named"])
            await connection.close()
            try await eventually("it is gone") {
                try await broker.connections(virtualHost: virtualHost).isEmpty
            }
        }
    }

    @Test("A channel that the broker closes leaves the others and what waits on them alone")
    func channelError() async throws {
        try await withConnection { connection in
            let bad = try await connection.openChannel()
            let good = try await connection.openChannel()
            try await good.declareQueue("q")
            let outcomes = Recorder<PublishOutcome>()
            try await good.selectConfirms()
            for number in 0..<1000 {
                good.submit(
                    Publish(
                        exchange: "",
                        routingKey: "q",
                        body: ByteBuffer(integer: number),
                        outcome: { outcomes.append($0) }
                    )
                )
            }
            let error = await failure { () async throws(AMQPError) in
                try await bad.declareQueue("missing", passive: true)
            }
            guard case .channelClosedByBroker(404, let text) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(text.contains("no queue 'missing'"))
            let all = try await outcomes.wait(for: 1000)
            #expect(all.allSatisfy { if case .confirmed = $0 { true } else { false } })
            #expect(bad.closedError?.replyCode == 404)
            #expect(good.closedError == nil)
            let reopened = try await connection.openChannel()
            #expect(reopened.number == bad.number)
        }
    }

    @Test("A temporary channel can fail without harm to any other")
    func temporaryChannel() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            for _ in 0..<20 {
                let error = await failure { () async throws(AMQPError) in
                    try await connection.withTemporaryChannel { channel throws(AMQPError) in
                        try await channel.declareQueue("missing", passive: true)
                    }
                }
                #expect(error?.replyCode == 404)
            }
            let status = try await connection.withTemporaryChannel { channel throws(AMQPError) in
                try await channel.declareQueue("q")
            }
            #expect(status.name == "q")
            #expect(channel.closedError == nil)
        }
    }

    @Test("An ack for a channel that is closed does nothing, whatever channel has its number now")
    func ackOnClosedChannel() async throws {
        try await withConnection { connection in
            let first = try await connection.openChannel()
            try await first.declareQueue("q")
            for number in 0..<2 { try await first.publish(ByteBuffer(integer: number), routingKey: "q") }
            let deliveries = Recorder<Delivery>()
            _ = try await first.consume(queue: "q", onDelivery: { deliveries.append($0) })
            let delivery = try await deliveries.wait(for: 2)[0]
            await first.close()
            let second = try await connection.openChannel()
            #expect(second.number == first.number)
            try await second.setPrefetch(1)
            let again = Recorder<Delivery>()
            _ = try await second.consume(queue: "q", onDelivery: { again.append($0) })
            #expect(try await again.wait(for: 1)[0].deliveryTag == delivery.deliveryTag)
            first.acknowledge(delivery.deliveryTag)
            first.reject(delivery.deliveryTag, requeue: false)
            await second.close()
            let third = try await connection.openChannel()
            try await eventually("both are back in the queue") {
                try await third.declareQueue("q", passive: true).messageCount == 2
            }
        }
    }

    @Test("Acks that were submitted before the close have arrived when it returns")
    func acksBeforeClose() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            for number in 0..<100 { try await channel.publish(ByteBuffer(integer: number), routingKey: "q") }
            let deliveries = Recorder<Delivery>()
            _ = try await channel.consume(queue: "q", onDelivery: { deliveries.append($0) })
            for delivery in try await deliveries.wait(for: 100) { channel.acknowledge(delivery.deliveryTag) }
            await channel.close()
            let other = try await connection.openChannel()
            #expect(try await other.declareQueue("q", passive: true).messageCount == 0)
        }
    }

    @Test(
        "Closing while others publish ends everything once: nothing hangs and nothing is lost",
        arguments: [false, true]
    )
    func closeWhilePublishing(_ closesConnection: Bool) async throws {
        try await withConnection { keeper in
            let connection = try await AMQPConnection.open(keeper.endpoint)
            let observer = try await keeper.openChannel()
            try await observer.declareQueue("q")
            let channel = try await connection.openChannel()
            try await channel.selectConfirms()
            let outcomes = Recorder<PublishOutcome>()
            let started = Recorder<Int>()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        for number in 0..<500 {
                            channel.submit(
                                Publish(
                                    exchange: "",
                                    routingKey: "q",
                                    mandatory: true,
                                    body: ByteBuffer(integer: number),
                                    outcome: { outcomes.append($0) }
                                )
                            )
                            if number == 100 { started.append(1) }
                            if number % 50 == 0 { await Task.yield() }
                        }
                    }
                }
                try await started.wait(for: 2)
                if closesConnection { await connection.close() } else { await channel.close() }
                try await group.waitForAll()
            }
            var sent = 0
            for outcome in try await outcomes.wait(for: 2000) {
                switch outcome {
                case .confirmed, .presumedDelivered: sent += 1
                case .notWritten: break
                default: Issue.record("\(outcome)")
                }
            }
            try await confirmMarker(on: observer)
            #expect(try await observer.declareQueue("q", passive: true).messageCount == sent + 1)
            #expect(outcomes.values.count == 2000)
            await connection.close()
        }
    }

    @Test("A connection can be closed from inside a callback")
    func closeFromCallback() async throws {
        try await withConnection { keeper in
            let connection = try await AMQPConnection.open(keeper.endpoint)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q", autoDelete: true)
            _ = try await channel.consume(
                queue: "q",
                onDelivery: { _ in Task { await connection.close() } }
            )
            try? await channel.publish(ByteBuffer(), routingKey: "q")
            #expect(await connection.waitUntilClosed() != nil)
        }
    }

    @Test("A thousand publishers wait for their confirms at the same time")
    func thousandConfirms() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<1000 {
                    group.addTask { try await channel.publish(ByteBuffer(integer: number), routingKey: "q") }
                }
                try await group.waitForAll()
            }
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 1000)
            #expect(await channel.publishes.isEmpty)
        }
    }

    @Test("A memory alarm blocks the connection that publishes, and its end lets the message through")
    func memoryAlarm() async throws {
        try await TestBroker.own { broker in
            var configuration = ConnectionConfiguration()
            configuration.operationTimeout = .seconds(60)
            let connection = try await AMQPConnection.open(Endpoint(url: broker.url), configuration: configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.selectConfirms()
            try await broker.setMemoryAlarm(true)
            // The first message blocks the connection: the broker takes it, but reads nothing any more.
            async let first: Void = channel.publish(ByteBuffer(), routingKey: "q")
            try await eventually("it is blocked") { connection.blockedReason != nil }
            let second = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), routingKey: "q", timeout: .milliseconds(100))
            }
            guard case .notSent(.blocked) = second else {
                Issue.record("\(String(describing: second))")
                return
            }
            async let third: Void = channel.publish(ByteBuffer(), routingKey: "q")
            try await broker.setMemoryAlarm(false)
            try await first
            try await third
            #expect(connection.blockedReason == nil)
            #expect(try await channel.declareQueue("q", passive: true).messageCount == 2)
            // While it is blocked the broker does not answer a close: it is bounded all the same.
            try await broker.setMemoryAlarm(true)
            async let fourth = failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), routingKey: "q")
            }
            try await eventually("it is blocked again") { connection.blockedReason != nil }
            await connection.close(timeout: .milliseconds(100))
            _ = await fourth
            try await broker.setMemoryAlarm(false)
        }
    }

    @Test("A broker that is paused is given up after two heartbeats")
    func paused() async throws {
        try await TestBroker.own { broker in
            let endpoint = try Endpoint(url: "\(broker.url)?heartbeat=3")
            let connection = try await AMQPConnection.open(endpoint)
            try await broker.pause()
            let error = try await within(.seconds(60)) { await connection.waitUntilClosed() }
            try await broker.resume()
            guard case .heartbeatTimeout(.seconds(3)) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }
}
