import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

@Suite("A connection over a network that fails")
struct FaultyNetworkTests {
    enum Fault: CaseIterable, Sendable {
        case halfOpen, halfOpenToBroker, halfOpenToClient, stalled

        var conditions: NetworkConditions { self == .stalled ? .stalled : .halfOpen }
        var direction: FaultProxy.Direction {
            switch self {
            case .halfOpen, .stalled: .both
            case .halfOpenToBroker: .toBroker
            case .halfOpenToClient: .toClient
            }
        }
    }

    @Test(
        "A connection through which nothing gets any more is given up after two heartbeats, also while writing",
        arguments: [Fault.halfOpen, .halfOpenToClient, .stalled],
        [false, true]
    )
    func silence(_ fault: Fault, whileWriting: Bool) async throws {
        try await withProxiedConnection(heartbeat: .seconds(1)) { connection, proxy in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.selectConfirms()
            await proxy.set(fault.conditions, fault.direction)
            let start = ContinuousClock.now
            if whileWriting {
                // More than the sockets take.
                let body = ByteBuffer(repeating: 0, count: 12 << 20)
                let error = await failure { () async throws(AMQPError) in
                    try await channel.publish(body, routingKey: "q", timeout: .seconds(60))
                }
                guard case .heartbeatTimeout = error?.cause else {
                    Issue.record("\(String(describing: error))")
                    return
                }
            }
            let end = await connection.waitUntilClosed()
            guard case .heartbeatTimeout = end else {
                Issue.record("\(String(describing: end))")
                return
            }
            // Two intervals, and what a busy machine adds.
            #expect(ContinuousClock.now - start < .seconds(20))
        }
    }

    @Test("A connection whose bytes do not reach the broker is closed by it after two heartbeats")
    func brokerGivesUp() async throws {
        try await withProxiedConnection(heartbeat: .seconds(1)) { connection, proxy in
            await proxy.set(.halfOpen, .toBroker)
            guard case .connectionLost = await connection.waitUntilClosed() else {
                Issue.record("\(String(describing: connection.closedError))")
                return
            }
        }
    }

    @Test("A connection that is cut says so, and whether what waited was sent", arguments: FaultProxy.Cut.allCases)
    func cut(_ how: FaultProxy.Cut) async throws {
        try await withProxiedConnection { connection, proxy in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            try await channel.selectConfirms()
            // The message arrives, and its confirm does not.
            await proxy.set(.stalled, .toClient)
            let publishing = Task {
                await failure { () async throws(AMQPError) in
                    try await channel.publish(ByteBuffer(string: "x"), routingKey: "q", timeout: .seconds(60))
                }
            }
            let sent = try #require(await proxy.connections.first)
            try await eventually("it is on its way") {
                try #require(await proxy.connections.first).bytesToBroker > sent.bytesToBroker
            }
            await proxy.cut(how)
            guard case .connectionLost = await connection.waitUntilClosed() else {
                Issue.record("\(String(describing: connection.closedError))")
                return
            }
            guard case .unconfirmed(.connectionLost) = await publishing.value else {
                Issue.record("\(String(describing: await publishing.value))")
                return
            }
        }
    }

    @Test("A network that is slow, and one that is late, carry everything", arguments: [false, true])
    func slow(_ late: Bool) async throws {
        try await withProxiedConnection { connection, proxy in
            await proxy.set(late ? .delayed(by: .milliseconds(50)) : .limited(to: 200_000))
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            let body = ByteBuffer(bytes: (0..<100_000).map { UInt8(truncatingIfNeeded: $0 &* 31) })
            try await channel.publish(body, routingKey: "q", mandatory: true)
            #expect(try await channel.get(queue: "q", noAck: true)?.body == body)
        }
    }

    @Test("A pool whose connections are refused, reset, ignored and cut is back when the network is")
    func pool() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: proxy.url(virtualHost: virtualHost))])
            configuration.connection.connectTimeout = .seconds(2)
            configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100))
            let pool = AMQPPool(configuration: configuration) { channel in
                try await channel.declareQueue("q", arguments: QueueArguments())
            }
            try await pool.start()
            for what in [FaultProxy.NewConnections.refused, .reset, .ignored] {
                try await pool.waitUntilReady(timeout: .seconds(60))
                try await proxy.setNewConnections(what)
                await proxy.cut()
                try await eventually("\(what): no channel is ready") {
                    await failure { () async throws(AMQPError) in
                        try await pool.waitUntilReady(timeout: .milliseconds(10))
                    } != nil
                }
                try await proxy.setNewConnections(.accepted)
                try await pool.publish(
                    ByteBuffer(string: "\(what)"),
                    routingKey: "q",
                    mandatory: true,
                    timeout: .seconds(60)
                )
            }
            #expect(try await broker.queue("q", virtualHost: virtualHost)?.messages == 3)
            await pool.stop()
            await proxy.shutdown()
        }
    }
}

/// Runs the body with a connection through a proxy.
private func withProxiedConnection(
    heartbeat: Duration = .seconds(60),
    _ body: @escaping @Sendable (AMQPConnection, FaultProxy) async throws -> Void
) async throws {
    try await TestBroker.withVirtualHost { broker, _, virtualHost in
        let proxy = try await FaultProxy.start(to: broker)
        var configuration = ConnectionConfiguration(name: "proxied")
        configuration.heartbeat = heartbeat
        configuration.connectTimeout = .seconds(60)
        configuration.operationTimeout = .seconds(60)
        configuration.closeTimeout = .seconds(1)
        let endpoint = try Endpoint(url: proxy.url(virtualHost: virtualHost))
        let connection = try await AMQPConnection.open(endpoint, configuration: configuration)
        do {
            try await body(connection, proxy)
        } catch {
            await connection.close()
            await proxy.shutdown()
            throw error
        }
        await connection.close()
        await proxy.shutdown()
    }
}
