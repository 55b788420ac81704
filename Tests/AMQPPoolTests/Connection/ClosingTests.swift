import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("Closing in the middle of everything")
struct ClosingTests {
    @Test(
        "While others publish, consume, fetch, declare and wait, each ends once and nothing hangs",
        arguments: [true, false]
    )
    func amidEverything(_ closesConnection: Bool) async throws {
        try await withConnection { keeper in
            for _ in 0..<5 {
                let connection = try await AMQPConnection.open(keeper.endpoint, configuration: patient())
                let channel = try await connection.openChannel()
                try await channel.declareQueue("q", autoDelete: true)
                let deliveries = Recorder<UInt64>()
                _ = try await channel.consume(
                    queue: "q",
                    onDelivery: { delivery in
                        channel.acknowledge(delivery.deliveryTag)
                        deliveries.append(delivery.deliveryTag)
                    }
                )
                try await within(.seconds(60)) {
                    await withTaskGroup(of: Void.self) { group in
                        for number in 0..<10 {
                            group.addTask {
                                while channel.closedError == nil {
                                    try? await channel.publish(ByteBuffer(integer: number), routingKey: "q")
                                }
                            }
                        }
                        group.addTask { while (try? await channel.get(queue: "q", noAck: true)) != nil {} }
                        group.addTask { while (try? await channel.declareQueue("q", passive: true)) != nil {} }
                        group.addTask { _ = await channel.waitUntilClosed() }
                        group.addTask { _ = await channel.waitUntilClosed() }
                        group.addTask {
                            _ = try? await deliveries.wait(for: 50)
                            async let first: Void = channel.close()
                            if closesConnection { await connection.close() }
                            await first
                            await channel.close()
                        }
                        await group.waitForAll()
                    }
                }
                #expect(channel.closedError != nil)
                await connection.close()
                #expect(connection.closedError != nil)
            }
        }
    }

    @Test("From inside the callbacks of a delivery, a cancel and an end: both a channel and its connection")
    func insideCallbacks() async throws {
        try await withConnection { keeper in
            for closesConnection in [true, false] {
                let connection = try await AMQPConnection.open(keeper.endpoint, configuration: patient())
                let channel = try await connection.openChannel()
                try await channel.declareQueue("q", autoDelete: true)
                let closed = Recorder<Bool>()
                let close: @Sendable () -> Void = {
                    Task {
                        if closesConnection { await connection.close() } else { await channel.close() }
                        closed.append(true)
                    }
                }
                channel.onClosed { _ in close() }
                _ = try await channel.consume(queue: "q", onDelivery: { _ in close() }, onCancel: { close() })
                try? await channel.publish(ByteBuffer(), routingKey: "q")
                try await closed.wait(for: 2)
                #expect(channel.closedError != nil)
                await connection.close()
            }
        }
    }

    @Test("A handler that stops the pool its consumer is on gets that, and its message is delivered again")
    func poolFromHandler() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            let stopped = Recorder<Bool>()
            let consumers = Supervisor("consumers") {
                Child.consumer("consumer", of: "q", on: pool, configuration: RunningConsumer.quick()) { channel in
                    try await channel.declareQueue("q", durable: true)
                } handler: { _ in
                    await pool.stop()
                    stopped.append(true)
                    try Task.checkCancellation()
                }
            }
            try await pool.start()
            try await consumers.start()
            try await eventually("it consumes") { try await !broker.consumers(virtualHost: virtualHost).isEmpty }
            try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
            try await stopped.wait(for: 1)
            try await eventually("it is in the queue again") {
                try await broker.queue("q", virtualHost: virtualHost)?.ready == 1
            }
            try await within(.seconds(60)) { await consumers.stop() }
        }
    }

    @Test("A handler that waits for its own consumer to stop holds it up to the drain deadline, and no longer")
    func ownSupervisorFromHandler() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            var configuration = RunningConsumer.quick()
            configuration.drainTimeout = .milliseconds(300)
            let running = Mutex<Supervisor?>(nil)
            let box = Box(running)
            let begun = Recorder<Bool>()
            let consumers = Supervisor("consumers") { [configuration] in
                Child.consumer("consumer", of: "q", on: pool, configuration: configuration) { channel in
                    try await channel.declareQueue("q", durable: true)
                } handler: { _ in
                    begun.append(true)
                    await box.value.withLock { $0 }?.stop()
                }
            }
            box.value.withLock { $0 = consumers }
            try await pool.start()
            try await consumers.start()
            try await eventually("it consumes") { try await !broker.consumers(virtualHost: virtualHost).isEmpty }
            try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
            try await begun.wait(for: 1)
            try await within(.seconds(60)) { await consumers.stop() }
            box.value.withLock { $0 = nil }
            await pool.stop()
        }
    }

    private final class Box: Sendable {
        let value: Mutex<Supervisor?>
        init(_ value: consuming Mutex<Supervisor?>) { self.value = value }
    }
}
