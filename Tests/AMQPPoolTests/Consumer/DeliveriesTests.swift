import BrokerSupport
import LocalBroker
import NIOCore
import Testing

@testable import AMQPPool

@Suite("A sequence of deliveries")
struct DeliveriesTests {
    private func withPool(
        _ body: @escaping @Sendable (AMQPPool, LocalBroker, String) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            try await pool.start()
            do {
                try await pool.waitUntilReady(timeout: .seconds(60))
                _ = try await pool.withChannel { try await $0.declareQueue("q", durable: true) }
                try await body(pool, broker, virtualHost)
            } catch {
                await pool.stop()
                throw error
            }
            await pool.stop()
        }
    }

    @Test("It holds no more than the prefetch, and what is not acknowledged goes back when it ends")
    func bounded() async throws {
        try await withPool { pool, broker, virtualHost in
            for number in 0..<10 { try await pool.publish(ByteBuffer(string: "\(number)"), routingKey: "q") }
            let taken = try await pool.withDeliveries(of: "q", prefetch: 3) { deliveries in
                var taken: [UnsettledDelivery] = []
                for await delivery in deliveries {
                    taken.append(delivery)
                    if taken.count == 3 { break }
                }
                try await eventually("three are out") {
                    try await broker.queue("q", virtualHost: virtualHost)?.unacknowledged == 3
                }
                taken[0].acknowledge()
                taken[0].reject(requeue: true)
                taken[1].reject(requeue: false)
                try await eventually("two more") {
                    let queue = try await broker.queue("q", virtualHost: virtualHost)
                    return queue?.unacknowledged == 3 && queue?.messages == 8
                }
                return taken
            }
            #expect(taken.map { $0.delivery.text } == ["0", "1", "2"])
            try await eventually("all back") { try await broker.queue("q", virtualHost: virtualHost)?.ready == 8 }
            // To nothing.
            taken[2].acknowledge()
            #expect(try await broker.channels(virtualHost: virtualHost).count == 1)
        }
    }

    @Test("It goes on when the connection is lost, and ends when its task is cancelled")
    func goesOn() async throws {
        try await withPool { pool, broker, virtualHost in
            let taken = Recorder<String>()
            let task = Task {
                try await pool.withDeliveries(of: "q") { deliveries in
                    for await delivery in deliveries {
                        taken.append(delivery.delivery.text)
                        delivery.acknowledge()
                    }
                }
            }
            for round in 1...3 {
                try await pool.publish(ByteBuffer(string: "\(round)"), routingKey: "q", timeout: .seconds(60))
                try await taken.wait { $0.last == "\(round)" }
                for connection in try await broker.connections(virtualHost: virtualHost) {
                    try await broker.closeConnection(connection.name)
                }
                try await eventually("it consumes again") {
                    try await broker.consumers(virtualHost: virtualHost).count == 1
                }
            }
            task.cancel()
            try await within(.seconds(60)) { try await task.value }
        }
    }

    @Test("What the broker refuses to declare ends it")
    func refused() async throws {
        try await withPool { pool, _, _ in
            do {
                try await pool.withDeliveries(
                    of: "q",
                    onOpen: { try await $0.declareQueue("q", durable: true, arguments: ["x-max-length": 1]) },
                    { deliveries in
                        for await _ in deliveries {}
                    }
                )
                Issue.record("no error")
            } catch {
                #expect("\(error)".contains("406"))
            }
        }
    }

    @Test("recover puts everything unacknowledged back, and acknowledgements before it count")
    func recover() async throws {
        try await withPool { pool, broker, virtualHost in
            try await pool.withChannel { channel in
                for number in 0..<4 { try await pool.publish(ByteBuffer(string: "\(number)"), routingKey: "q") }
                var tags: [UInt64] = []
                for _ in 0..<4 { tags.append(try #require(try await channel.get(queue: "q")).deliveryTag) }
                channel.acknowledge(tags[1])
                try await channel.recover()
                try await eventually("three are back") {
                    try await broker.queue("q", virtualHost: virtualHost)?.ready == 3
                }
                let again = try #require(try await channel.get(queue: "q", noAck: true))
                #expect(again.redelivered)
                #expect(again.text == "0")
            }
        }
    }
}
