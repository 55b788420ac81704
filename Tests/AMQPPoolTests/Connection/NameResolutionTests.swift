import BrokerSupport
import LocalBroker
import NIOCore
import NIOPosix
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("The name of a broker")
struct NameResolutionTests {
    /// In the DNS's place: what names resolve to now, and who has asked.
    private final class Names: Sendable {
        private let state = Mutex((ipv4: [SocketAddress](), ipv6: [SocketAddress](), asked: [String]()))

        /// The names that were asked for, once an attempt.
        var asked: [String] { state.withLock { $0.asked } }

        func set(ipv6: [SocketAddress] = [], _ ipv4: [SocketAddress]) {
            state.withLock { ($0.ipv4, $0.ipv6) = (ipv4, ipv6) }
        }

        func ask(_ name: String) -> [SocketAddress] {
            state.withLock { state in
                state.asked.append(name)
                return state.ipv4
            }
        }

        var ipv6: [SocketAddress] { state.withLock { $0.ipv6 } }

        var configuration: ConnectionConfiguration {
            var configuration = patient()
            configuration.makeResolver = { Query(names: self, eventLoop: $0) }
            return configuration
        }
    }

    private struct Query: Resolver, Sendable {
        let names: Names
        let eventLoop: any EventLoop

        func initiateAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
            eventLoop.makeSucceededFuture(names.ask(host))
        }

        func initiateAAAAQuery(host: String, port: Int) -> EventLoopFuture<[SocketAddress]> {
            eventLoop.makeSucceededFuture(names.ipv6)
        }

        func cancelQueries() {}
    }

    private static let name = "broker.example"

    private static func address(_ port: Int) throws -> SocketAddress {
        try SocketAddress(ipAddress: "127.0.0.1", port: port)
    }

    @Test("It is resolved anew at each attempt to connect")
    func anew() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let closed = try ClosedPort()
            let names = Names()
            let endpoint = Endpoint(host: Self.name, virtualHost: virtualHost)
            try names.set([Self.address(closed.number)])
            let error = await failure { () async throws(AMQPError) in
                try await AMQPConnection.open(endpoint, configuration: names.configuration)
            }
            guard case .connectFailed(_, reason: "connection refused") = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try names.set([Self.address(broker.port)])
            await (try AMQPConnection.open(endpoint, configuration: names.configuration)).close()
            #expect(names.asked == [Self.name, Self.name])
            withExtendedLifetime(closed) {}
        }
    }

    @Test("Of its addresses, of both families, each is tried until one answers")
    func allAddresses() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let closed = try [ClosedPort(), ClosedPort()]
            let refusing = try closed.map { try Self.address($0.number) }
            let names = Names()
            let endpoint = Endpoint(host: Self.name, virtualHost: virtualHost)
            let broker = try Self.address(broker.port)
            let nowhere = try SocketAddress(ipAddress: "::1", port: closed[0].number)
            for addresses in [refusing + [broker], [broker] + refusing] {
                names.set(ipv6: [nowhere], addresses)
                await (try AMQPConnection.open(endpoint, configuration: names.configuration)).close()
            }
            names.set(refusing + refusing)
            let error = await failure { () async throws(AMQPError) in
                try await AMQPConnection.open(endpoint, configuration: names.configuration)
            }
            guard case .connectFailed(_, reason: "connection refused") = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            names.set([])
            let none = await failure { () async throws(AMQPError) in
                try await AMQPConnection.open(endpoint, configuration: names.configuration)
            }
            guard case .connectFailed(_, reason: "the name does not resolve") = none else {
                Issue.record("\(String(describing: none))")
                return
            }
            // Once an attempt.
            #expect(names.asked.count == 4)
            withExtendedLifetime(closed) {}
        }
    }

    @Test(
        "When the first of its addresses accepts and then says nothing, or closes, the next attempt begins with the second"
    )
    func silentAddress() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            for state in [FaultProxy.NewConnections.ignored, .reset] {
                let silent = try await FaultProxy.start(to: broker)
                try await silent.setNewConnections(state)
                let names = Names()
                try names.set([Self.address(silent.port), Self.address(broker.port)])
                var configuration = PoolConfiguration(endpoints: [Endpoint(host: Self.name, virtualHost: virtualHost)])
                configuration.connection = names.configuration
                configuration.connection.connectTimeout = .seconds(2)
                configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
                let pool = AMQPPool(configuration: configuration)
                try await pool.start()
                try await pool.waitUntilReady(timeout: .seconds(60))
                await pool.stop()
                await silent.shutdown()
            }
        }
    }

    @Test("Each attempt begins one address further, whatever order the resolver answers in")
    func walk() throws {
        let walk = AddressWalk()
        let addresses = try (1...4).map { try SocketAddress(ipAddress: "127.0.0.\($0)", port: 1) }
        var begun = [try #require(walk.order(addresses).first)]
        for _ in 0..<8 {
            let order = walk.order(addresses.shuffled())
            #expect(Set(order.map(\.description)) == Set(addresses.map(\.description)))
            begun.append(try #require(order.first))
        }
        #expect(begun.map { $0.ipAddress?.last } == ["1", "2", "3", "4", "1", "2", "3", "4", "1"])
        // Those that come and go do not stop it.
        #expect(walk.order([addresses[0]]).count == 1)
        #expect(walk.order(addresses).first?.ipAddress == "127.0.0.2")
        #expect(walk.order([]).isEmpty)
    }

    @Test("A broker that moves to another address is found there")
    func moved() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let proxies = [try await FaultProxy.start(to: broker), try await FaultProxy.start(to: broker)]
            let names = Names()
            try names.set([Self.address(proxies[0].port)])
            var configuration = PoolConfiguration(endpoints: [Endpoint(host: Self.name, virtualHost: virtualHost)])
            configuration.connection = names.configuration
            configuration.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(100))
            let pool = AMQPPool(configuration: configuration) { channel in
                try await channel.declareQueue("q", arguments: QueueArguments())
            }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try names.set([Self.address(proxies[1].port)])
            try await proxies[0].setNewConnections(.refused)
            await proxies[0].cut()
            try await eventually("both connections are there") { await proxies[1].connections.count == 2 }
            try await pool.publish(ByteBuffer(string: "m"), routingKey: "q", mandatory: true, timeout: .seconds(60))
            #expect(names.asked.allSatisfy { $0 == Self.name })
            await pool.stop()
            for proxy in proxies { await proxy.shutdown() }
        }
    }
}
