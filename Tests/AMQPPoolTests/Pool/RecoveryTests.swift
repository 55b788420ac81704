import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import SupervisionTesting
import Synchronization
import Testing

@testable import AMQPPool

@Suite("What a pool's channels declare")
struct RecoveryTests {
    @Test(
        "A broker that is killed, or comes back empty, under a thousand publishers: all goes on, and nothing above gave up",
        arguments: [true, false]
    )
    func underLoad(_ isWiped: Bool) async throws {
        try await TestBroker.own { broker in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: broker.url)])
            configuration.connection = patient()
            configuration.connection.closeTimeout = .seconds(2)
            configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(200), jitter: 1)
            let pool = AMQPPool(configuration: configuration) { channel in
                try await channel.declareExchange("events", type: .topic, arguments: ExchangeArguments())
                try await channel.declareQueue("log", arguments: QueueArguments())
                try await channel.bindQueue("log", to: "events", routingKey: "#")
            }
            let load = Load()
            var settings = RunningConsumer.quick()
            settings.concurrency = 20
            // Its acknowledgements queue up behind what a thousand publish.
            settings.prefetch = 200
            let root = Supervisor("app", intensity: RestartIntensity(0, within: .seconds(1))) { [settings] in
                pool.supervisor
                Child.consumer("consumer", of: "log", on: pool, configuration: settings) { channel in
                    try await channel.declareQueue("log", arguments: QueueArguments())
                } handler: { _ in
                    load.handled.add(1, ordering: .relaxed)
                }
            }
            try await root.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            let before = try Self.ancestors.map { try LiveTree(root).process($0).pid }
            try await within(.seconds(240)) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<1000 { group.addTask { await load.publish(number, on: pool) } }
                    try await load.reach(published: 2000, handled: 50)
                    if isWiped {
                        try await broker.wipe()
                    } else {
                        try await broker.kill()
                        try await broker.startAgain()
                    }
                    let (published, handled) = load.counts
                    try await load.reach(published: published + 2000, handled: handled + 50)
                    load.isOver.store(true, ordering: .relaxed)
                    try await group.waitForAll()
                }
            }
            // The outage was no failure of anything but the connections and channels.
            #expect(try Self.ancestors.map { try LiveTree(root).process($0).pid } == before)
            #expect(load.unexpected.values.isEmpty, "\(load.unexpected.values.prefix(3))")
            await root.stop()
        }
    }

    private static let ancestors = [
        "app", "app/consumer", "app/amqp-pool", "app/amqp-pool/registry", "app/amqp-pool/pool",
        "app/amqp-pool/pool/connection-supervisor-1", "app/amqp-pool/pool/connection-supervisor-2",
    ]

    /// Publishers, and what became of their messages.
    private final class Load: Sendable {
        let published = Atomic(0)
        let handled = Atomic(0)
        let isOver = Atomic(false)
        let unexpected = Recorder<String>()

        var counts: (Int, Int) { (published.load(ordering: .relaxed), handled.load(ordering: .relaxed)) }

        func publish(_ number: Int, on pool: AMQPPool) async {
            while !isOver.load(ordering: .relaxed) {
                do throws(AMQPError) {
                    try await pool.publish(
                        ByteBuffer(integer: number),
                        exchange: "events",
                        routingKey: "a.b",
                        timeout: .seconds(60)
                    )
                    published.add(1, ordering: .relaxed)
                } catch {
                    // In doubt is what was written; the rest was kept for the next channel.
                    guard case .unconfirmed = error else {
                        unexpected.append("\(error)")
                        return
                    }
                }
            }
        }

        func reach(published: Int, handled: Int) async throws {
            try await eventually("\(published) published, \(handled) handled") {
                let counts = self.counts
                return counts.0 >= published && counts.1 >= handled
            }
        }
    }

    @Test("What was declared elsewhere than in onOpen is not resurrected; what onOpen declares is there again")
    func notResurrected() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connections = 1
            configuration.connection = patient()
            configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
            let opened = Recorder<Int>()
            let pool = AMQPPool(configuration: configuration) { channel in
                try await channel.declareQueue("kept", durable: true)
                opened.append(1)
            }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await pool.withChannel { channel in
                // Deleted with its last consumer, as intended.
                try await channel.declareQueue("temporary", durable: true, autoDelete: true)
                let tag = try await channel.consume(queue: "temporary", onDelivery: { _ in })
                try await channel.cancel(tag)
                try await channel.declareQueue("mine", durable: true)
                try await channel.deleteQueue("mine")
            }
            try await broker.deleteQueue("kept", virtualHost: virtualHost)
            for round in 2...3 {
                for connection in try await broker.connections(virtualHost: virtualHost) {
                    try await broker.dropConnection(connection.name)
                }
                try await opened.wait(for: round)
                #expect(try await broker.queues(virtualHost: virtualHost).map(\.name) == ["kept"])
            }
            await pool.stop()
        }
    }

    @Test("The auto-delete queue of a consumer that has stopped stays deleted, also when the connection comes back")
    func stoppedConsumer() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try RunningConsumer.pool(url)
            let opened = Recorder<Int>()
            let consumers = Supervisor("consumers") {
                Child.consumer("consumer", of: "q", on: pool, configuration: RunningConsumer.quick()) { channel in
                    try await channel.declareQueue("q", durable: true, autoDelete: true)
                    opened.append(1)
                } handler: { _ in
                }
            }
            try await pool.start()
            try await consumers.start()
            try await eventually("it consumes") { try await !broker.consumers(virtualHost: virtualHost).isEmpty }
            await consumers.stop()
            try await eventually("its queue is deleted") { try await broker.queues(virtualHost: virtualHost).isEmpty }
            for connection in try await broker.connections(virtualHost: virtualHost) {
                try await broker.dropConnection(connection.name)
            }
            // One that was written to the connection that is dropped is in doubt.
            try await eventually("the pool is back") {
                do throws(AMQPError) {
                    try await pool.publish(ByteBuffer(), routingKey: "nowhere", timeout: .seconds(60))
                    return true
                } catch {
                    return false
                }
            }
            #expect(try await broker.queues(virtualHost: virtualHost).isEmpty)
            #expect(opened.values.count == 1)
            await pool.stop()
        }
    }
}
