import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

@Suite("Connections that are closed again and again")
struct ForcedCloseTests {
    private func configuration(_ endpoints: [Endpoint]) -> PoolConfiguration {
        var configuration = PoolConfiguration(endpoints: endpoints)
        configuration.connections = 1
        configuration.connection = patient()
        configuration.connection.name = "kept"
        configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
        return configuration
    }

    @Test(
        "Four times in succession: the name stays, returns and acknowledgements work, and a consumer comes back each time"
    )
    func successive() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let deliveries = Recorder<String>()
            let pool = AMQPPool(configuration: configuration([try Endpoint(url: url)])) { channel in
                try await channel.declareQueue("q")
                try await channel.consume(queue: "q") { [weak channel] delivery in
                    deliveries.append(String(buffer: delivery.body))
                    channel?.acknowledge(delivery.deliveryTag)
                }
            }
            try await pool.start()
            for round in 1...4 {
                try await pool.waitUntilReady(timeout: .seconds(60))
                try await pool.publish(ByteBuffer(string: "\(round)"), routingKey: "q", mandatory: true)
                try await deliveries.wait { $0.contains("\(round)") }
                let error = await failure { () async throws(AMQPError) in
                    try await pool.publish(ByteBuffer(), routingKey: "nowhere", mandatory: true)
                }
                guard case .returned = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                let connections = try await broker.connections(virtualHost: virtualHost)
                #expect(connections.compactMap(\.clientName) == ["kept-1"])
                try await eventually("the acknowledgement was taken") {
                    try await broker.queue("q", virtualHost: virtualHost)?.messages == 0
                }
                for connection in connections {
                    try await broker.closeConnection(connection.name, reason: "round \(round)")
                }
                try await eventually("it is noticed") {
                    try await !broker.connections(virtualHost: virtualHost).contains {
                        connections.map(\.name).contains($0.name)
                    }
                }
            }
            #expect(deliveries.values == ["1", "2", "3", "4"])
            await pool.stop()
        }
    }

    @Test("Many queues and consumers on one connection come back")
    func many() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let (deliveries, opened) = (Recorder<String>(), Recorder<Int>())
            let pool = AMQPPool(configuration: configuration([try Endpoint(url: url)])) { channel in
                for number in 0..<40 {
                    try await channel.declareQueue("q\(number)")
                    try await channel.consume(queue: "q\(number)", noAck: true) { deliveries.append($0.routingKey) }
                }
                opened.append(1)
            }
            try await pool.start()
            for round in 1...2 {
                try await opened.wait(for: round)
                try await pool.waitUntilReady(timeout: .seconds(60))
                for number in 0..<40 { try await pool.publish(ByteBuffer(), routingKey: "q\(number)", mandatory: true) }
                try await deliveries.wait(for: 40 * round)
                #expect(Set(deliveries.values).count == 40)
                for connection in try await broker.connections(virtualHost: virtualHost) {
                    try await broker.dropConnection(connection.name)
                }
            }
            await pool.stop()
        }
    }

    @Test("When the first endpoint is dead at the next attempt, the second takes over, topology and all")
    func nextEndpoint() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let endpoints = [try Endpoint(url: proxy.url(virtualHost: virtualHost)), try Endpoint(url: url)]
            let deliveries = Recorder<Int>()
            let pool = AMQPPool(configuration: configuration(endpoints)) { channel in
                try await channel.declareQueue("q", autoDelete: true)
                try await channel.consume(queue: "q", noAck: true) { _ in deliveries.append(1) }
            }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await proxy.setNewConnections(.refused)
            await proxy.cut()
            // Written to the connection that is being lost, a message may have arrived or not: it is sent once more then.
            try await publishUntilCertain(pool)
            try await deliveries.wait(for: 1)
            await pool.stop()
            await proxy.shutdown()
        }
    }

    @Test(
        "Deleting if unused or empty does it, or is refused; a secret is renewed with the longest reason, and not on a closed connection"
    )
    func conditions() async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.publish(ByteBuffer(), routingKey: "q")
            for unused in [true, false] {
                let other = try await connection.openChannel()
                if unused { try await channel.consume(queue: "q", tag: "t") { _ in } }
                let error = await failure { () async throws(AMQPError) in
                    try await other.deleteQueue("q", ifUnused: unused, ifEmpty: !unused)
                }
                #expect(error?.replyCode == 406)
                if unused {
                    try await channel.cancel("t")
                    try await channel.recover()
                }
            }
            try await channel.purgeQueue("q")
            try await channel.deleteQueue("q", ifUnused: true, ifEmpty: true)
            try await connection.updateSecret("guest", reason: String(repeating: "r", count: 255))
            let tooLong = await failure { () async throws(AMQPError) in
                try await connection.updateSecret("guest", reason: String(repeating: "r", count: 256))
            }
            guard case .notSent(.unencodable) = tooLong else {
                Issue.record("\(String(describing: tooLong))")
                return
            }
            await connection.close()
            let closed = await failure { () async throws(AMQPError) in try await connection.updateSecret("guest") }
            guard case .notSent(.connectionClosed) = closed else {
                Issue.record("\(String(describing: closed))")
                return
            }
        }
    }
}

/// Publishes, again as long as the broker may have the message or not.
func publishUntilCertain(_ pool: AMQPPool) async throws {
    while true {
        do {
            try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
            return
        } catch .unconfirmed {
            continue
        }
    }
}
