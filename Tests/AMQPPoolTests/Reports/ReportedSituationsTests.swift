import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

/// Situations that users of other clients reported, each played against a real broker. docs/reliability.md names the reports.
@Suite("Situations that others reported")
struct ReportedSituationsTests {
    private static func pool(
        _ urls: [String],
        change: (inout PoolConfiguration) -> Void = { _ in },
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in }
    ) throws -> AMQPPool {
        var configuration = PoolConfiguration(endpoints: try urls.map { try Endpoint(url: $0) })
        configuration.connection.connectTimeout = .seconds(60)
        configuration.connection.operationTimeout = .seconds(60)
        configuration.connection.closeTimeout = .seconds(2)
        configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100))
        change(&configuration)
        return AMQPPool(configuration: configuration, onOpen: onOpen)
    }

    @Test("While an alarm blocks a pool's connections, it can be stopped, and what waits says that it was not sent")
    func stopWhileBlocked() async throws {
        try await TestBroker.own { broker in
            let pool = try Self.pool(
                [broker.url(virtualHost: "/")],
                onOpen: { channel in
                    try await channel.declareQueue("q", arguments: QueueArguments())
                }
            )
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await broker.setMemoryAlarm(true)
            let publishers = (0..<8).map { number in
                Task {
                    await failure { () async throws(AMQPError) in
                        try await pool.publish(
                            ByteBuffer(integer: number),
                            routingKey: "q",
                            mandatory: true,
                            timeout: .seconds(300)
                        )
                    }
                }
            }
            try await eventually("the broker blocks what publishes") {
                try await broker.connections().contains { $0.state == "blocked" }
            }
            await pool.stop()
            for publisher in publishers {
                #expect(await publisher.value != nil)
            }
            try await broker.setMemoryAlarm(false)
            try await eventually("its connections are gone") { try await broker.connections().isEmpty }
        }
    }

    @Test("A connection that is lost while it is blocked is replaced, and the message arrives when the alarm is over")
    func lostWhileBlocked() async throws {
        try await TestBroker.own { broker in
            let proxy = try await FaultProxy.start(to: broker)
            let pool = try Self.pool(
                [proxy.url(virtualHost: "/")],
                onOpen: { channel in
                    try await channel.declareQueue("q", arguments: QueueArguments())
                }
            )
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await broker.setMemoryAlarm(true)
            let publisher = Task {
                try await pool.publish(
                    ByteBuffer(string: "m"),
                    routingKey: "q",
                    mandatory: true,
                    timeout: .seconds(300)
                )
            }
            try await eventually("one is blocked") {
                try await broker.connections().contains { $0.state == "blocked" }
            }
            await proxy.cut()
            try await eventually("it has connected again") { await proxy.accepted >= 4 }
            try await broker.setMemoryAlarm(false)
            do {
                try await publisher.value
            } catch let error as AMQPError {
                // It may have been written before it was blocked: then it is in doubt, and said to be.
                guard case .unconfirmed = error else {
                    Issue.record("\(error)")
                    return
                }
            }
            try await pool.publish(ByteBuffer(string: "n"), routingKey: "q", mandatory: true, timeout: .seconds(60))
            await pool.stop()
            await proxy.shutdown()
        }
    }

    @Test("Over its life a connection opens many more channels than it has numbers")
    func channelNumbers() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = ConnectionConfiguration()
            configuration.connectTimeout = .seconds(60)
            configuration.operationTimeout = .seconds(60)
            let endpoint = try Endpoint(url: url + "?channel_max=7")
            let connection = try await AMQPConnection.open(endpoint, configuration: configuration)
            for _ in 0..<200 {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<7 {
                        group.addTask {
                            let channel = try await connection.openChannel()
                            try await channel.selectConfirms()
                            await channel.close()
                        }
                    }
                    try await group.waitForAll()
                }
            }
            await connection.close()
        }
    }

    @Test("A frame that takes longer to arrive than two heartbeats is no silence")
    func slowFrame() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            var configuration = ConnectionConfiguration()
            configuration.heartbeat = .seconds(1)
            configuration.connectTimeout = .seconds(60)
            configuration.operationTimeout = .seconds(60)
            let endpoint = try Endpoint(url: proxy.url(virtualHost: virtualHost))
            let connection = try await AMQPConnection.open(endpoint, configuration: configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q", arguments: QueueArguments())
            let body = ByteBuffer(bytes: (0..<125_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            try await channel.publish(body, routingKey: "q", mandatory: true)
            // One frame of 125 kB at 30 kB/s: four heartbeats and more.
            await proxy.set(.limited(to: 30_000), .toClient)
            let message = try #require(try await channel.get(queue: "q", noAck: true))
            #expect(message.body == body)
            // And the other way, where what is sent in between is a heartbeat that waits behind it.
            await proxy.heal()
            await proxy.set(.limited(to: 30_000), .toBroker)
            try await channel.publish(body, routingKey: "q", mandatory: true)
            #expect(connection.closedError == nil)
            await connection.close()
            await proxy.shutdown()
        }
    }

    @Test(
        "A time beyond all calendars, in a property or a header, arrives as the number that it is",
        arguments: [0, 1_772_000_000_000, UInt64(bitPattern: -14_256_000), UInt64(Int64.max), UInt64.max]
    )
    func timestamps(_ seconds: UInt64) async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = ConnectionConfiguration()
            configuration.connectTimeout = .seconds(60)
            configuration.operationTimeout = .seconds(60)
            let connection = try await AMQPConnection.open(try Endpoint(url: url), configuration: configuration)
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q", arguments: QueueArguments())
            let headers: FieldTable = ["at": .timestamp(seconds), "list": .array([.timestamp(seconds)])]
            let properties = MessageProperties(headers: headers, timestamp: seconds)
            try await channel.publish(ByteBuffer(string: "x"), properties: properties, routingKey: "q", mandatory: true)
            let message = try #require(try await channel.get(queue: "q", noAck: true))
            #expect(message.properties.timestamp == seconds)
            #expect(message.properties.headers["at"] == .timestamp(seconds))
            #expect(message.properties.headers["list"] == .array([.timestamp(seconds)]))
            await connection.close()
        }
    }

    @Test("A node that is put into maintenance loses its clients to the others, and has them again when it must")
    func maintenance() async throws {
        try await TestBroker.withVirtualHost { other, otherURL, virtualHost in
            try await TestBroker.own { node in
                let pool = try Self.pool(
                    [node.url(virtualHost: "/"), otherURL],
                    change: { $0.connection.connectTimeout = .seconds(5) },
                    onOpen: { channel in
                        try await channel.declareQueue("q", arguments: QueueArguments())
                    }
                )
                try await pool.start()
                try await pool.waitUntilReady(timeout: .seconds(60))
                try await node.setMaintenance(true)
                try await eventually("both connections are at the other node") {
                    try await other.connections(virtualHost: virtualHost).count == 2
                }
                try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
                try await node.setMaintenance(false)
                for connection in try await other.connections(virtualHost: virtualHost) {
                    try await other.closeConnection(connection.name)
                }
                // Written to a connection that is being closed, it may have arrived or not: it is sent once more then.
                try await publishUntilCertain(pool)
                await pool.stop()
            }
        }
    }

    @Test("A virtual host that is full of connections is told so, and connected to when there is room")
    func connectionLimit() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await broker.setLimit(LocalBroker.VirtualHostLimit.connections, 0, virtualHost: virtualHost)
            let pool = try Self.pool([url])
            try await pool.start()
            let error = try #require(
                await failure { () async throws(AMQPError) in
                    try await pool.waitUntilReady(timeout: .seconds(2))
                }
            )
            #expect("\(error)".contains("connection limit"), "\(error)")
            try await broker.setLimit(LocalBroker.VirtualHostLimit.connections, nil, virtualHost: virtualHost)
            try await pool.waitUntilReady(timeout: .seconds(60))
            await pool.stop()
        }
    }

    @Test("A user who may open no more channels is told so, and goes on when he may")
    func channelLimit() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let user = "user-\(UUID().uuidString.lowercased())"
            try await broker.createUser(user, password: "s3cret", virtualHost: virtualHost)
            try await broker.setLimit(LocalBroker.UserLimit.channels, 0, user: user)
            let url = "amqp://\(user):s3cret@127.0.0.1:\(broker.port)/\(virtualHost)"
            let pool = try Self.pool(
                [url],
                change: { configuration in
                    configuration.connections = 1
                    configuration.channelsPerConnection = 2
                }
            )
            try await pool.start()
            try await eventually("the reason is told") {
                let error = await failure { () async throws(AMQPError) in
                    try await pool.waitUntilReady(timeout: .milliseconds(500))
                }
                return "\(String(describing: error))".contains("maximum allowed user limit")
            }
            try await broker.setLimit(LocalBroker.UserLimit.channels, nil, user: user)
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await eventually("both channels are open") { pool.readyChannels.count == 2 }
            await pool.stop()
        }
    }

    @Test("A virtual host that is full of queues refuses the declaration, and says why")
    func queueLimit() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await broker.setLimit(LocalBroker.VirtualHostLimit.queues, 0, virtualHost: virtualHost)
            let pool = try Self.pool(
                [url],
                onOpen: { channel in
                    try await channel.declareQueue("q", arguments: QueueArguments())
                }
            )
            let error = await #expect(throws: (any Error).self) { try await pool.run() }
            #expect("\(String(describing: error))".contains("queue limit"), "\(String(describing: error))")
        }
    }

    @Test("Three hundred lost connections leave no socket, channel or connection behind")
    func descriptors() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let pool = try Self.pool(
                [proxy.url(virtualHost: virtualHost)],
                change: { configuration in
                    configuration.connections = 1
                    configuration.backoff = Backoff(minimum: .milliseconds(1), maximum: .milliseconds(1), jitter: 0)
                }
            )
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            for round in 0..<300 {
                let before = await proxy.accepted
                await proxy.cut(round.isMultiple(of: 2) ? .reset : .finish)
                try await eventually("it connects again") { await proxy.accepted > before }
            }
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await eventually("one connection is left") {
                try await broker.connections(virtualHost: virtualHost).count == 1
            }
            #expect(await proxy.connections.count == 1)
            #expect(pool.readyChannels.count == 1)
            await pool.stop()
            await proxy.shutdown()
        }
    }
}
