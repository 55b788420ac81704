import BrokerSupport
import LocalBroker
import Logging
import NIOCore
import Supervision
import SupervisionTesting
import Testing

@testable import AMQPPool

/// A running tree with a pool and one consumer, `consumer`, of the queue `q`, in a virtual host of its own.
struct RunningConsumer: Sendable {
    typealias Handler = @Sendable (Delivery) async throws -> Void

    static let path = "app/consumer"
    let pool: AMQPPool
    let root: Supervisor
    let broker: LocalBroker
    let virtualHost: String
    /// The channel at each time consuming began.
    let opened: Recorder<AMQPChannel>

    var tree: LiveTree { LiveTree(root) }

    static func run(
        _ configuration: ConsumerConfiguration = quick(),
        arguments: FieldTable = FieldTable(),
        logger: Logger? = nil,
        handler: @escaping Handler,
        _ body: @escaping @Sendable (RunningConsumer) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let pool = try pool(url)
            let opened = Recorder<AMQPChannel>()
            let root = Supervisor("app", intensity: RestartIntensity(1000, within: .seconds(1)), logger: logger) {
                pool.supervisor
                Child.consumer("consumer", of: "q", on: pool, configuration: configuration) { channel in
                    try await channel.declareQueue("q", durable: true, arguments: arguments)
                    opened.append(channel)
                } handler: { delivery in
                    try await handler(delivery)
                }
            }
            try await root.start()
            do {
                try await opened.wait(for: 1)
                try await body(
                    RunningConsumer(
                        pool: pool,
                        root: root,
                        broker: broker,
                        virtualHost: virtualHost,
                        opened: opened
                    )
                )
            } catch {
                await root.stop()
                throw error
            }
            await root.stop()
        }
    }

    static func quick() -> ConsumerConfiguration {
        var configuration = ConsumerConfiguration()
        configuration.retryBackoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(20), jitter: 0)
        configuration.reopenBackoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
        configuration.drainTimeout = .seconds(60)
        return configuration
    }

    static func pool(_ url: String) throws -> AMQPPool {
        var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
        configuration.connections = 1
        configuration.killTimeout = .seconds(30)
        configuration.connection.connectTimeout = .seconds(60)
        configuration.connection.operationTimeout = .seconds(60)
        configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
        return AMQPPool(configuration: configuration)
    }

    func publish(_ bodies: String..., properties: MessageProperties = MessageProperties()) async throws {
        for body in bodies {
            try await pool.publish(
                ByteBuffer(string: body),
                properties: properties,
                routingKey: "q",
                mandatory: true,
                timeout: .seconds(60)
            )
        }
    }

    /// Waits until the broker has no message any more, neither ready nor unacknowledged.
    func empty() async throws {
        try await eventually("the queue is empty") {
            try await broker.queue("q", virtualHost: virtualHost).map { $0.messages == 0 } ?? false
        }
    }
}

extension Delivery {
    var text: String { String(buffer: body) }
}

struct Poison: Error {}
