import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import NIOCore
import QueueWorkers
import Supervision
import Synchronization
import Testing

private final class Password: Sendable {
    private let text: Mutex<String>

    init(_ text: String) { self.text = Mutex(text) }

    var value: String { text.withLock { $0 } }

    func set(_ new: String) { text.withLock { $0 = new } }
}

/// What an operator sees in the log at `info`, in situations that happen.
@Suite("The log in an operator's situations")
struct SituationTests {
    struct Order: Codable, Sendable {
        var number: Int
    }

    private static func configuration(_ urls: String...) throws -> PoolConfiguration {
        var configuration = PoolConfiguration(endpoints: try urls.map { try Endpoint(url: $0) })
        configuration.backoff = Backoff(minimum: .milliseconds(50), maximum: .milliseconds(200), jitter: 0)
        return configuration
    }

    /// The lines without those of start and stop.
    private static func between(_ log: StoryLog) -> [String] {
        log.all.filter { !$0.contains(" started") && !$0.contains(" stopping") && !$0.contains(" stopped") }
    }

    private static func started(_ configuration: PoolConfiguration, _ log: StoryLog) async throws -> AMQPPool {
        let pool = AMQPPool(configuration: configuration, logger: log.logger)
        try await pool.start()
        try await LiveWait.until { pool.channelRegistry?.channels.count == 2 }
        return pool
    }

    @Test("Two endpoints, one of which is dead: that it is, once, and that all connections are there")
    func oneOfTwoIsDead() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let log = StoryLog()
            let closed = try ClosedPort()
            let pool = try await Self.started(try Self.configuration("amqp://127.0.0.1:\(closed.number)", url), log)
            await pool.stop()
            let lines = Self.between(log)
            #expect(lines.count { $0.contains("pool cannot connect") } == 1, "\(lines)")
            #expect(lines.count { $0.contains("pool connected") } == 1, "\(lines)")
            #expect(lines.count <= 3, "\(lines)")
        }
    }

    @Test("A network that swallows everything: lost for its heartbeats, and connected again")
    func heartbeats() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let log = StoryLog()
            let proxy = try await FaultProxy.start(to: broker)
            var configuration = try Self.configuration(proxy.url(virtualHost: virtualHost))
            configuration.connection.heartbeat = .seconds(1)
            configuration.connection.connectTimeout = .seconds(1)
            let pool = try await Self.started(configuration, log)
            await proxy.set(NetworkConditions(isStalled: true))
            try await log.wait(for: "pool has lost the broker")
            await proxy.heal()
            try await log.wait(for: "pool connected again")
            await pool.stop()
            await proxy.shutdown()
            let lines = Self.between(log)
            #expect(
                lines.contains { $0.hasPrefix("warning pool has lost the broker") && $0.contains("two heartbeats") }
            )
            #expect(lines.count { $0.contains("has lost") } == 1, "\(lines)")
            #expect(lines.count <= 4, "\(lines)")
        }
    }

    @Test(
        "A virtual host that is deleted: lost in order, refused once as an error, and connected again when it is back"
    )
    func virtualHostDeleted() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let log = StoryLog()
            let name = virtualHost + "-2"
            try await broker.createVirtualHost(name)
            let pool = try await Self.started(try Self.configuration(broker.url(virtualHost: name)), log)
            try await broker.deleteVirtualHost(name)
            try await log.wait(for: "refused the virtual host")
            try await Task.sleep(for: .seconds(1))
            try await broker.createVirtualHost(name)
            try await log.wait(for: "pool connected again")
            await pool.stop()
            try await broker.deleteVirtualHost(name)
            let lines = Self.between(log)
            #expect(lines.count { $0.contains("has lost the broker") } == 1, "\(lines)")
            // While it is created again the broker says for a moment that the user has no rights there.
            #expect([1, 2].contains(lines.count { $0.hasPrefix("error ") }), "\(lines)")
            #expect(lines.count <= 5, "\(lines)")
        }
    }

    @Test(
        "Credentials that are changed: nothing while it is connected, refused once as an error, and no password in it"
    )
    func credentialsChanged() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let log = StoryLog()
            let user = "user-\(virtualHost.suffix(8))"
            try await broker.createUser(user, password: "sesame", virtualHost: virtualHost)
            let password = Password("sesame")
            var configuration = try Self.configuration("amqp://127.0.0.1:\(broker.port)/\(virtualHost)")
            configuration.connection.credentials = CredentialsProvider { _ in
                Credentials(username: user, password: password.value)
            }
            let pool = try await Self.started(configuration, log)
            #expect(pool.connections.allSatisfy { $0.username == user })
            password.set("open")
            for connection in try await broker.connections(virtualHost: virtualHost) {
                try await broker.closeConnection(connection.name)
            }
            try await log.wait(for: "refused the credentials")
            try await Task.sleep(for: .seconds(1))
            password.set("sesame")
            try await log.wait(for: "pool connected again")
            await pool.stop()
            let lines = Self.between(log)
            #expect(lines.count { $0.hasPrefix("error ") } == 1, "\(lines)")
            #expect(lines.count <= 4, "\(lines)")
            #expect(!lines.joined().contains("sesame"))
        }
    }

    @Test("Fifty workers in one outage: two lines for each, and three for the pool")
    func fiftyWorkers() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let log = StoryLog()
            let proxy = try await FaultProxy.start(to: broker)
            let pool = AMQPPool(
                configuration: try Self.configuration(proxy.url(virtualHost: virtualHost)),
                logger: log.logger
            )
            var configuration = WorkerConfiguration()
            configuration.queueType = .classic
            let settings = configuration
            let app = Supervisor("app", logger: log.logger) {
                pool.supervisor
                for number in 1...50 {
                    Child.worker(
                        "w\(number)",
                        of: Order.self,
                        from: "q\(number)",
                        on: pool,
                        retry: .after([], then: .park),
                        configuration: settings
                    ) { _, _ in }
                }
            }
            try await app.start()
            try await log.wait(for: "worker consuming", count: 50)
            // RabbitMQ closes connections (541) when queues are declared at the same moment.
            let workers = try (1...50).map { try app.child("w\($0)", as: QueueWorker.self) }
            try await LiveWait.until { workers.allSatisfy(\.health.isReady) && pool.connections.count == 2 }
            let before = log.all.count
            try await proxy.setNewConnections(.refused)
            await proxy.cut()
            try await log.wait(for: "worker has lost the broker", count: 50, after: before)
            try await log.wait(for: "pool cannot connect", after: before)
            try await proxy.setNewConnections(.accepted)
            try await log.wait(for: "worker consuming again", count: 50, after: before)
            let lines = log.all.dropFirst(before)
            #expect(lines.count { $0.contains(" worker ") } == 100)
            #expect(lines.count { $0.contains(" pool ") } == 3, "\(lines.filter { $0.contains(" pool ") })")
            #expect(lines.count == 103, "\(lines.filter { !$0.contains(" worker ") })")
            await app.stop()
            await proxy.shutdown()
        }
    }

    @Test("A memory alarm: blocked, once, and not any more")
    func memoryAlarm() async throws {
        try await TestBroker.own { broker in
            let log = StoryLog()
            let pool = try await Self.started(try Self.configuration(broker.url), log)
            try await broker.setMemoryAlarm(true)
            // The broker says it to connections that publish.
            let publishers = (0..<4).map { _ in
                Task { try? await pool.publish(ByteBuffer(string: "m"), routingKey: "q", timeout: .seconds(60)) }
            }
            try await log.wait(for: "pool blocked")
            #expect(pool.health.isLive && !pool.health.isReady)
            try await broker.setMemoryAlarm(false)
            try await log.wait(for: "pool not blocked any more")
            for publisher in publishers { await publisher.value }
            await pool.stop()
            let lines = Self.between(log)
            #expect(lines.count == 3, "\(lines)")
        }
    }
}
