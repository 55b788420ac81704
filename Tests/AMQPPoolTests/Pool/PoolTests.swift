import BrokerSupport
import ConcurrencyPrimitives
import LocalBroker
import NIOCore
import Supervision
import SupervisionTesting
import Testing

@testable import AMQPPool

extension AMQPPool {
    /// The ready channels.
    var readyChannels: [AMQPChannel] { registry.value?.channels.filter(\.isReady) ?? [] }
}

@Suite("A supervised pool")
struct PoolTests {
    /// Runs the body with a running pool in a virtual host of its own.
    private func withPool(
        connections: Int = 2,
        channels: Int = 1,
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in },
        _ body: @escaping @Sendable (AMQPPool, LocalBroker, String) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            // Patient: a second is not much for a broker on a busy test machine.
            configuration.killTimeout = .seconds(30)
            configuration.connections = connections
            configuration.channelsPerConnection = channels
            configuration.connection.connectTimeout = .seconds(60)
            configuration.connection.operationTimeout = .seconds(60)
            configuration.connection.name = "pool"
            let pool = AMQPPool(configuration: configuration, onOpen: onOpen)
            try await pool.start()
            do {
                try await pool.waitUntilReady(timeout: .seconds(60))
                try await body(pool, broker, virtualHost)
            } catch {
                await pool.stop()
                throw error
            }
            await pool.stop()
        }
    }

    private static let connection = "amqp-pool/pool/connection-supervisor-1/connection"
    private static let channel = "amqp-pool/pool/connection-supervisor-1/channel-supervisor/channel-1"

    @Test("Who waits for a channel while the pool starts anew gets one of the next incarnation")
    func waitsAcrossRestart() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            try await proxy.setNewConnections(.ignored)
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: proxy.url(virtualHost: virtualHost))])
            configuration.connection.connectTimeout = .seconds(1)
            configuration.connection.operationTimeout = .seconds(60)
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            let waiter = Task { try await pool.waitUntilReady(timeout: .seconds(120)) }
            let publisher = Task {
                try await pool.publish(ByteBuffer(string: "m"), routingKey: "nowhere", timeout: .seconds(120))
            }
            try await eventually("both wait") { pool.waiting == 2 }
            try LiveTree(pool.supervisor).end("amqp-pool/registry")
            try await proxy.setNewConnections(.accepted)
            try await waiter.value
            try await publisher.value
            await pool.stop()
            await #expect(throws: AMQPError.self) { try await pool.waitUntilReady(timeout: .seconds(60)) }
            await proxy.shutdown()
        }
    }

    @Test("The tree is the one that is drawn, and what onOpen declares can be published to")
    func publishes() async throws {
        try await withPool(
            channels: 2,
            onOpen: { channel in
                try await channel.declareQueue("q")
            }
        ) { pool, _, _ in
            let paths = LiveTree(pool.supervisor).processes.map(\.path)
            #expect(
                paths == [
                    "amqp-pool", "amqp-pool/registry", "amqp-pool/pool",
                    "amqp-pool/pool/connection-supervisor-1",
                    "amqp-pool/pool/connection-supervisor-1/connection",
                    "amqp-pool/pool/connection-supervisor-1/channel-supervisor",
                    "amqp-pool/pool/connection-supervisor-1/channel-supervisor/channel-1",
                    "amqp-pool/pool/connection-supervisor-1/channel-supervisor/channel-2",
                    "amqp-pool/pool/connection-supervisor-2",
                    "amqp-pool/pool/connection-supervisor-2/connection",
                    "amqp-pool/pool/connection-supervisor-2/channel-supervisor",
                    "amqp-pool/pool/connection-supervisor-2/channel-supervisor/channel-1",
                    "amqp-pool/pool/connection-supervisor-2/channel-supervisor/channel-2",
                ]
            )
            for number in 0..<10 {
                try await pool.publish(ByteBuffer(integer: number), routingKey: "q", mandatory: true)
            }
            let count = try await pool.withChannel { try await $0.declareQueue("q", passive: true).messageCount }
            #expect(count == 10)
        }
    }

    @Test("A stopped pool has closed its connections at the broker")
    func stops() async throws {
        try await withPool { pool, broker, virtualHost in
            try await eventually("two connections") {
                try await broker.connections(virtualHost: virtualHost).count == 2
            }
            #expect(
                try await broker.connections(virtualHost: virtualHost).map(\.clientName).sorted() == [
                    "pool-1", "pool-2",
                ]
            )
            await pool.stop()
            try await eventually("no connections") {
                try await broker.connections(virtualHost: virtualHost).isEmpty
            }
            let error = await failure { () async throws(AMQPError) in
                try await pool.publish(ByteBuffer(), routingKey: "q", timeout: .milliseconds(1))
            }
            guard case .notSent(.poolNotRunning) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    @Test(
        "Whichever process is ended while messages are on their way, each has one outcome and none is lost",
        arguments: [
            "connection-supervisor-1/channel-supervisor/channel-1", "connection-supervisor-1/connection",
            "connection-supervisor-1/channel-supervisor", "connection-supervisor-1",
        ],
        [LiveTree.Ending.kill, .crash()]
    )
    func endings(_ name: String, _ ending: LiveTree.Ending) async throws {
        try await withPool(onOpen: { try await $0.declareQueue("q") }) { pool, _, _ in
            let tree = LiveTree(pool.supervisor)
            let path = "amqp-pool/pool/\(name)"
            let channel = try pool.supervisor.child(
                "pool",
                "connection-supervisor-1",
                "channel-supervisor",
                "channel-1",
                as: ChannelProcess.self
            ).resolve()
            // Known to the process, it is not yet set up: that takes confirm mode and `onOpen`.
            try await eventually("channel 1 is in use") { pool.readyChannels.contains { $0 === channel.channel } }
            let first = try #require(channel.channel)
            let outcomes = Recorder<PublishOutcome>()
            for number in 0..<1000 {
                first.submit(
                    Publish(
                        exchange: "",
                        routingKey: "q",
                        mandatory: true,
                        body: ByteBuffer(integer: number),
                        outcome: { outcomes.append($0) }
                    )
                )
                if number == 500 { try tree.end(path, by: ending) }
            }
            var sent = 0
            for outcome in try await outcomes.wait(for: 1000) {
                switch outcome {
                case .confirmed, .presumedDelivered: sent += 1
                case .notWritten: break
                default: Issue.record("\(outcome)")
                }
            }
            try await tree.restarted(within: .seconds(60))
            let second = try pool.supervisor.child(
                "pool",
                "connection-supervisor-1",
                "channel-supervisor",
                "channel-1",
                as: ChannelProcess.self
            )
            try await eventually("the channel is open again") {
                guard let process = try? second.resolve() else { return false }
                return process !== channel && pool.readyChannels.contains { $0 === process.channel }
            }
            let count = try await pool.withChannel { channel in
                try await confirmMarker(on: channel)
                return try await channel.declareQueue("q", passive: true).messageCount
            }
            #expect(count == sent + 1)
            #expect(outcomes.values.count == 1000)
        }
    }

    @Test("Publishing through the pool goes on whatever process is ended; at most the confirm of a message is lost")
    func publishingGoesOn() async throws {
        try await withPool(onOpen: { try await $0.declareQueue("q") }) { pool, _, _ in
            let tree = LiveTree(pool.supervisor)
            let confirmed = Recorder<Bool>()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 {
                    group.addTask {
                        for number in 0..<200 {
                            do throws(AMQPError) {
                                try await pool.publish(ByteBuffer(integer: number), routingKey: "q", mandatory: true)
                                confirmed.append(true)
                            } catch {
                                guard case .unconfirmed = error else { throw error }
                                confirmed.append(false)
                            }
                        }
                    }
                }
                for (index, name) in [
                    "connection-supervisor-1/channel-supervisor/channel-1", "connection-supervisor-2/connection",
                    "connection-supervisor-1/channel-supervisor", "connection-supervisor-2",
                ].enumerated() {
                    try await confirmed.wait(for: (index + 1) * 100)
                    try tree.end("amqp-pool/pool/\(name)", by: .kill)
                    try await tree.restarted(within: .seconds(60))
                }
                try await group.waitForAll()
            }
            #expect(confirmed.values.count == 800)
            let sure = confirmed.values.filter { $0 }.count
            let count = try await pool.withChannel { channel in
                try await confirmMarker(on: channel)
                return try await channel.declareQueue("q", passive: true).messageCount
            }
            #expect(sure + 1 <= count && count <= 801)
        }
    }

    @Test("A connection that the broker drops is opened again, and nothing above it notices")
    func dropped() async throws {
        try await withPool { pool, broker, virtualHost in
            let root = pool.supervisor.pid
            for _ in 0..<5 {
                try await eventually("two connections") {
                    try await broker.connections(virtualHost: virtualHost).count == 2
                }
                let connections = try await broker.connections(virtualHost: virtualHost)
                for connection in connections { try await broker.dropConnection(connection.name) }
                try await eventually("both are gone") {
                    let now = try await broker.connections(virtualHost: virtualHost).map(\.name)
                    return Set(now).isDisjoint(with: connections.map { $0.name })
                }
                try await pool.waitUntilReady(timeout: .seconds(60))
            }
            #expect(pool.supervisor.pid == root)
        }
    }

    @Test("A channel that the broker closes is opened again, and the connection stays")
    func channelError() async throws {
        try await withPool(connections: 1) { pool, broker, virtualHost in
            let name = try await broker.connections(virtualHost: virtualHost).map(\.name)
            await #expect(throws: AMQPError.self) {
                try await pool.withChannel { channel in
                    _ = try await channel.declareQueue("missing", passive: true)
                }
            }
            try await pool.publish(ByteBuffer(), routingKey: "anywhere")
            #expect(try await broker.connections(virtualHost: virtualHost).map(\.name) == name)
        }
    }

    @Test("A topology that the broker refuses at the first open ends the tree, and the error has the broker's text")
    func topologyError() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let endpoint = try Endpoint(url: url)
            let connection = try await AMQPConnection.open(endpoint)
            try await connection.openChannel().declareQueue("taken", durable: true)
            let pool = AMQPPool(endpoints: [endpoint]) {
                try await $0.declareQueue("taken", durable: true, arguments: ["x-max-length": 1])
            }
            do {
                try await within(.seconds(60)) { try await pool.run() }
                Issue.record("the pool ended without an error")
            } catch {
                let text = "406 PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue 'taken'"
                #expect("\(error)".contains(text))
            }
            await connection.close()
        }
    }

    @Test("While nothing can be connected to, the error names each endpoint and why, and no password")
    func unreachable() async throws {
        try await TestBroker.withVirtualHost { broker, url, _ in
            let wrong = Endpoint(host: "127.0.0.1", port: broker.port, username: "guest", password: "s3cret")
            let missing = try Endpoint(url: broker.url(virtualHost: "missing"))
            let free = try ClosedPort()
            let closed = Endpoint(host: "127.0.0.1", port: free.number, password: "s3cret")
            let pool = AMQPPool(endpoints: [wrong, missing, closed])
            try await pool.start()
            try await eventually("all three are tried") {
                let error = await failure { () async throws(AMQPError) in
                    try await pool.waitUntilReady(timeout: .milliseconds(50))
                }
                guard case .notSent(.notConnected(let failures)) = error, failures.count == 3 else { return false }
                let text = "\(String(describing: error))"
                if text.contains("has not ended") { return false }
                #expect(text.contains("refused the credentials: ACCESS_REFUSED"))
                #expect(text.contains("refused the virtual host \"missing\": 530 NOT_ALLOWED"))
                #expect(text.contains("\(closed.redacted): connection refused"))
                #expect(!text.contains("s3cret"))
                return true
            }
            await pool.stop()
            // With one good endpoint in the list every connection gets there.
            let other = AMQPPool(endpoints: [closed, try Endpoint(url: url)])
            try await other.start()
            try await other.waitUntilReady(timeout: .seconds(60))
            await other.stop()
            withExtendedLifetime(free) {}
        }
    }

    @Test("While it cannot connect, its processes can be ended, a waiting publisher cancelled, and the pool stopped")
    func stopsWhileConnecting() async throws {
        let silent = try await ScriptedPeer.start()
        let free = try ClosedPort()
        let closed = Endpoint(host: "127.0.0.1", port: free.number)
        let pool = AMQPPool(endpoints: [silent.endpoint, closed])
        try await pool.start()
        try await silent.connected.wait(for: 1)
        let waiting = Task {
            await failure { () async throws(AMQPError) in
                try await pool.publish(ByteBuffer(), routingKey: "q", timeout: .seconds(600))
            }
        }
        let tree = LiveTree(pool.supervisor)
        let old = try tree.end(Self.connection, by: .kill)
        #expect(await old.exited()?.description == "killed")
        try await tree.restarted(within: .seconds(60))
        #expect(try tree.process(Self.connection).pid != old)
        try await silent.ended.wait(for: 1)
        waiting.cancel()
        guard case .notSent(.cancelled) = await waiting.value else {
            Issue.record("not cancelled")
            return
        }
        try await within(.seconds(60)) { await pool.stop() }
        await silent.stop()
        withExtendedLifetime(free) {}
    }

    @Test("Who waits for a channel gets it as soon as the broker is there")
    func waitsForBroker() async throws {
        try await withPool(connections: 1) { pool, broker, virtualHost in
            let name = try #require(try await broker.connections(virtualHost: virtualHost).first?.name)
            try await broker.closeConnection(name)
            try await eventually("it is gone") {
                try await !broker.connections(virtualHost: virtualHost).contains { $0.name == name }
            }
            try await pool.publish(ByteBuffer(), routingKey: "anywhere")
        }
    }
}
