import BrokerSupport
import ConcurrencyPrimitives
import Dispatch
import LocalBroker
import NIOCore
import NIOPosix
import Supervision
import SupervisionTesting
import Testing

@testable import AMQPPool

/// Nobody may have to be left behind: what cannot be said to the broker is not waited for longer than was promised.
@Suite("Ending a pool whose network is stalled")
struct StalledEndTests {
    @Test(
        "Processes that close by handshake are killed in the middle of it, and end",
        arguments: ["channel-supervisor/channel-1", "connection"],
        ["amqp-pool", "amqp-pool/pool", "amqp-pool/pool/connection-supervisor-1"]
    )
    func killedWhileClosing(_ closing: String, _ killed: String) async throws {
        try await withStalledPool { configuration in
            // Without the kill it would be as if they never ended.
            configuration.connection.closeTimeout = .seconds(600)
            configuration.channelShutdown = .seconds(600)
        } _: { pool, tree in
            let path = "amqp-pool/pool/connection-supervisor-1/\(closing)"
            let connections = pool.readyChannels.map(\.connection)
            let pid = try tree.end(path, by: .shutdown)
            try await eventually("it has begun to close") {
                pool.readyChannels.count < 2 || connections.contains(where: \.isEnding)
            }
            try tree.end(killed)
            _ = await pid.exited()
        }
    }

    @Test("A pool that is stopped ends in its time")
    func stopped() async throws {
        try await withStalledPool { configuration in
            configuration.connection.closeTimeout = .milliseconds(200)
            configuration.channelShutdown = .milliseconds(200)
        } _: { pool, _ in
            await pool.stop()
        }
    }

    @Test("A pool that is killed ends in its time, and so do the connections")
    func killed() async throws {
        try await withStalledPool { _ in
        } _: { pool, tree in
            let connections = pool.readyChannels.map(\.connection)
            try tree.end("amqp-pool/pool")
            for connection in connections {
                guard case .timedOut(operation: "connection.close", after: _) = await connection.waitUntilClosed()
                else {
                    Issue.record("\(String(describing: connection.closedError))")
                    continue
                }
            }
        }
    }

    @Test("Work that a stop waits for ends when its time is over, or with a kill", arguments: [true, false])
    func stuckWork(_ isKilled: Bool) async throws {
        try await TestBroker.withVirtualHost { _, url, virtualHost in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connection = patient()
            configuration.connections = 1
            configuration.channelShutdown = isKilled ? .seconds(600) : .milliseconds(200)
            let stops = Recorder<AMQPChannel>()
            let app = Supervisor("app") { [configuration] in
                Child("registry") { _ in ChannelRegistry() }
                Supervisor.pool(
                    configuration: configuration,
                    registry: { context in
                        let app = context.supervisor.root
                        return try app.child("registry", as: ChannelRegistry.self).resolve()
                    },
                    onOpen: { _, _ in },
                    onStop: { channel in
                        stops.append(channel)
                        // Deaf to its cancellation, too.
                        await Task { await OneShot<Never>().wait() }.value
                    }
                )
            }
            try await app.start()
            let tree = app.testing
            tree.rememberAbandoned()
            let registry = try app.child("registry", as: ChannelRegistry.self).resolve()
            _ = try await registry.next(before: .now + .seconds(60))
            let pid = try LiveTree(app).end(
                "app/pool/connection-supervisor-1/channel-supervisor/channel-1",
                by: .shutdown
            )
            let channel = try #require(try await stops.wait(for: 1).first)
            if isKilled { try LiveTree(app).end("app/pool") }
            _ = await pid.exited()
            #expect(channel.closedError != nil)
            #expect(tree.stubborn == 0)
            try await LiveTree(app).restarted(within: .seconds(60))
            try LiveTree(app).end("app")
        }
    }

    @Test("A pool whose event loop is stuck ends in its time", arguments: [LiveTree.Ending.kill, .shutdown])
    func stuckEventLoop(_ ending: LiveTree.Ending) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connection = patient()
            configuration.connection.eventLoopGroup = group
            configuration.connection.closeTimeout = .milliseconds(200)
            configuration.killTimeout = .seconds(10)
            configuration.backoff = Backoff(minimum: .seconds(60), maximum: .seconds(60))
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            let tree = pool.supervisor.testing
            tree.rememberAbandoned()
            try await eventually("both channels are ready") { pool.readyChannels.count == 2 }
            let connections = pool.readyChannels.map(\.connection)
            let gate = DispatchSemaphore(value: 0)
            group.next().execute { gate.wait() }
            let pids = try Self.paths.map { try LiveTree(pool.supervisor).end($0, by: ending) }
            for pid in pids { _ = await pid.exited() }
            #expect(tree.stubborn == 0)
            #expect(connections.allSatisfy { $0.closedError == nil })
            gate.signal()
            // What was to be closed is, as soon as somebody can do it.
            for connection in connections { _ = await connection.waitUntilClosed() }
            await pool.stop()
        }
        try await group.shutdownGracefully()
    }

    private static let paths = [1, 2].flatMap { number in
        ["channel-supervisor/channel-1", "connection"].map { "amqp-pool/pool/connection-supervisor-\(number)/\($0)" }
    }

    /// Runs the body with a pool that was ready, then lets nothing through any more, and looks whether anybody was left behind.
    private func withStalledPool(
        _ change: (inout PoolConfiguration) -> Void,
        _ body: @escaping @Sendable (AMQPPool, LiveTree) async throws -> Void
    ) async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: proxy.url(virtualHost: virtualHost))])
            configuration.connection = patient()
            configuration.killTimeout = .milliseconds(200)
            change(&configuration)
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            let tree = pool.supervisor.testing
            tree.rememberAbandoned()
            try await eventually("both channels are ready") { pool.readyChannels.count == 2 }
            await proxy.set(.stalled)
            try await body(pool, LiveTree(pool.supervisor))
            #expect(tree.stubborn == 0)
            await proxy.set(.healthy)
            await pool.stop()
            #expect(tree.stubborn == 0)
            await proxy.shutdown()
        }
    }
}
