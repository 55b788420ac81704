import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import NIOCore
import QueueWorkers
import Supervision
import Synchronization
import Testing

struct Order: Codable, Sendable, Hashable {
    var number: Int
    var customer = "ann"
}

struct Broken: Error {}

/// What happened, in order, from any task.
final class Record<Value: Sendable>: Sendable {
    private let state = Mutex<[Value]>([])

    var values: [Value] { state.withLock { $0 } }

    func append(_ value: Value) { state.withLock { $0.append(value) } }
}

/// A tree with a pool and workers, in a virtual host of its own.
struct Shop: Sendable {
    let pool: AMQPPool
    let root: Supervisor
    let broker: LocalBroker
    let virtualHost: String

    static func run(
        logger: Logger? = nil,
        @ChildrenBuilder _ children: @escaping @Sendable (AMQPPool) -> [Child],
        _ body: @escaping @Sendable (Shop) async throws -> Void,
        prepare: @escaping @Sendable (AMQPPool) async throws -> Void = { _ in }
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connections = 1
            configuration.killTimeout = .seconds(30)
            configuration.connection.connectTimeout = .seconds(60)
            configuration.connection.operationTimeout = .seconds(60)
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            try await prepare(pool)
            await pool.stop()
            let root = Supervisor("shop", intensity: RestartIntensity(1000, within: .seconds(1)), logger: logger) {
                pool.supervisor
                children(pool)
            }
            try await root.start()
            do {
                try await pool.waitUntilReady(timeout: .seconds(60))
                try await body(Shop(pool: pool, root: root, broker: broker, virtualHost: virtualHost))
            } catch {
                await root.stop()
                throw error
            }
            await root.stop()
        }
    }

    func messages(in queue: String) async throws -> Int? {
        try await broker.queue(queue, virtualHost: virtualHost)?.messages
    }

    /// Waits until the broker tells of so many: what it tells of a queue is a little older than what it does.
    func wait(for count: Int, in queue: String) async throws {
        try await eventually("\(queue) has \(count) messages") { try await messages(in: queue) == count }
    }

    /// Publishes when the queue is there.
    func publish(_ orders: Order..., to queue: String = "orders", id: String? = nil) async throws {
        try await eventually("\(queue) is there") {
            try await broker.queue(queue, virtualHost: virtualHost) != nil
        }
        // The broker tells of a quorum queue before it is declared, and ends connections that publish to it then. Once it is
        // consumed, it has been declared. Not all are consumed.
        for _ in 0..<100 {
            if try await broker.consumers(virtualHost: virtualHost).contains(where: { $0.queue == queue }) { break }
            try await Task.sleep(for: .milliseconds(20))
        }
        for order in orders { try await whenLed { try await pool.publish(order, to: queue, id: id) } }
    }

    /// Waits until the worker "orders" consumes, by what it says itself, and publishes to it.
    func publish(numbers: ClosedRange<Int>) async throws {
        let worker = try worker
        try await eventually("it consumes") { worker.state == .consuming }
        for number in numbers { try await whenLed { try await pool.publish(Order(number: number), to: "orders") } }
    }

    /// The worker "orders".
    var worker: QueueWorker { get throws { try root.child("orders", as: QueueWorker.self).resolve() } }

    /// Publishes text to "orders", with properties of its own.
    func publish(text: String, _ properties: MessageProperties) async throws {
        try await eventually("orders is consumed") {
            try await broker.consumers(virtualHost: virtualHost).contains { $0.queue == "orders" }
        }
        try await whenLed {
            try await pool.publish(
                ByteBuffer(string: text),
                properties: properties,
                routingKey: "orders",
                mandatory: true
            )
        }
    }

    /// A quorum queue refuses messages until it has elected its leader. Under load a broker closes the connection for such a message instead,
    /// and has not taken it either.
    private func whenLed(_ publish: @Sendable () async throws -> Void) async throws {
        try await eventually("it is published") {
            do {
                try await publish()
                return true
            } catch AMQPError.nacked, AMQPError.unconfirmed(.connectionClosedByBroker(code: 541, _)) {
                return false
            }
        }
    }

    /// Takes a message off a queue.
    func take(from queue: String) async throws -> Delivery? {
        try await pool.withDedicatedChannel(timeout: .seconds(60)) { try await $0.get(queue: queue, noAck: true) }
    }
}

/// Holds up whoever waits until it is opened.
final class Gate: Sendable {
    private let (stream, continuation) = AsyncStream.makeStream(of: Void.self)

    func wait() async { for await _ in stream { return } }

    func open() { continuation.finish() }
}
