import BrokerSupport
import ConcurrencyPrimitives
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("Connections for consuming only")
struct ConsumerConnectionTests {
    private static func pool(_ url: String, consumerConnections: Int) throws -> AMQPPool {
        var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.consumerConnections = consumerConnections
        configuration.backoff = Backoff(minimum: .milliseconds(50), maximum: .milliseconds(200), jitter: 0)
        configuration.connection.operationTimeout = .seconds(60)
        return AMQPPool(configuration: configuration) { channel in
            try await channel.declareQueue("orders", durable: true)
        }
    }

    @Test(
        "An alarm of the broker's blocks who publishes; consumers go on if they have a connection of their own, and else when it is over"
    )
    func alarm() async throws {
        try await TestBroker.own { broker in
            for consumerConnections in [1, 0] {
                let (handled, gate) = (HandledCount(), Latch())
                let pool = try Self.pool(broker.url, consumerConnections: consumerConnections)
                var configuration = ConsumerConfiguration()
                // The next message comes when the broker has read the acknowledgement of the one before.
                configuration.prefetch = 1
                let settings = configuration
                let app = Supervisor("app", strategy: .restForOne) {
                    pool.supervisor
                    Child("orders") { context in
                        Consumer(context, of: "orders", on: pool, configuration: settings) { _ in
                            handled.add()
                            await gate.wait()
                        }
                    }
                }
                try await app.start()
                try await waitUntil { pool.connections.count == 2 + consumerConnections && pool.isReady }
                for number in 0..<30 {
                    try await pool.publish(ByteBuffer(string: "\(number)"), routingKey: "orders")
                }
                try await handled.wait(for: 1)
                try await broker.setMemoryAlarm(true)
                // The broker blocks a connection when something is published on it, and confirms nothing.
                let publishers = (0..<4).map { _ in
                    Task {
                        try await pool.publish(ByteBuffer(string: "later"), routingKey: "later", timeout: .seconds(300))
                    }
                }
                try await waitUntil { pool.state == .blocked }
                gate.open()
                if consumerConnections > 0 {
                    try await handled.wait(for: 30)
                } else {
                    // Nothing tells that nothing comes.
                    try await Task.sleep(for: .milliseconds(300))
                    #expect(handled.value == 1)
                }
                try await broker.setMemoryAlarm(false)
                for publisher in publishers { try await publisher.value }
                try await handled.wait(for: 30)
                await app.stop()
            }
        }
    }

    @Test("Nothing is published on a connection for consuming, and consumers are on no other; callers lease none")
    func apart() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let handled = HandledCount()
            let pool = try Self.pool(url, consumerConnections: 1)
            let app = Supervisor("app", strategy: .restForOne) {
                pool.supervisor
                for number in 1...4 {
                    Child("orders-\(number)") { context in
                        Consumer(context, of: "orders", on: pool) { _ in handled.add() }
                    }
                }
            }
            try await app.start()
            try await waitUntil { pool.connections.count == 3 && pool.readyChannels.count == 2 }
            try await pool.withChannel { _ in }
            let publishing = Set(pool.readyChannels.map { ObjectIdentifier($0.connection) })
            #expect(publishing.count == 2)
            for _ in 0..<6 {
                try await pool.withDedicatedChannel { channel in
                    #expect(publishing.contains(ObjectIdentifier(channel.connection)))
                }
                try await pool.publish(ByteBuffer(string: "m"), routingKey: "orders")
            }
            try await handled.wait(for: 6)
            let consuming = try #require(
                pool.registry.value?.openConnections.first { !publishing.contains(ObjectIdentifier($0)) }
            )
            // Four consumers, and the channel of the pool itself.
            try await waitUntil { await Self.channels(of: consuming) == 5 }
            try await eventually("all four consume") { try await broker.consumers(virtualHost: virtualHost).count == 4 }

            // It is lost: the consumers wait for it, and publishing goes on.
            await consuming.close()
            try await waitUntil { pool.connections.count == 3 }
            for _ in 0..<4 { try await pool.publish(ByteBuffer(string: "m"), routingKey: "orders") }
            try await handled.wait(for: 10)
            await app.stop()
        }
    }

    @Test("Settings that cannot be are refused", arguments: [1001, .max])
    func refused(_ count: Int) throws {
        var configuration = PoolConfiguration(endpoints: ["amqp://127.0.0.1"])
        configuration.consumerConnections = count
        #expect(throws: AMQPError.self) { try configuration.check() }
        configuration.consumerConnections = -1
        try configuration.check()
    }

    private static func channels(of connection: isolated AMQPConnection) -> Int {
        connection.channels.compactMap { $0 }.count
    }

    private func waitUntil(_ condition: () async -> Bool) async throws {
        for _ in 0..<9000 {
            if await condition() { return }
            try await Task.sleep(for: .milliseconds(10))
        }
        Issue.record("it did not come about")
    }
}

/// How many messages were handled.
private final class HandledCount: Sendable {
    private let count = Monitor(0)

    var value: Int { count.read { $0 } }

    func add() { count.change { $0 += 1 } }

    func wait(for number: Int) async throws {
        _ = try await count.wait(before: .now + .seconds(90)) { $0 >= number ? true : nil }
    }
}
