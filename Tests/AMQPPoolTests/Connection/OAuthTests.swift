import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

/// A broker that asks for tokens, with RabbitMQ's own plugin. What users of bunny-swift and of the Java client are promised.
@Suite("Logging in with OAuth 2")
struct OAuthTests {
    private struct Authority: Sendable {
        let tokens: OAuthTokens
        let broker: LocalBroker
    }

    /// One for all tests here. It ends with the process.
    private static let authority = Task.detached {
        let tokens = try OAuthTokens()
        return Authority(tokens: tokens, broker: try await LocalBroker.start(tokens.options()))
    }

    private static func with(
        _ body: (OAuthTokens, LocalBroker, _ virtualHost: String) async throws -> Void
    ) async throws {
        let authority = try await authority.value
        let virtualHost = "test-\(UUID().uuidString.lowercased())"
        try await authority.broker.createVirtualHost(virtualHost)
        try await body(authority.tokens, authority.broker, virtualHost)
        try await authority.broker.deleteVirtualHost(virtualHost)
    }

    private static func pool(
        _ broker: LocalBroker,
        _ virtualHost: String,
        connections: Int = 1,
        _ credentials: @escaping @Sendable () throws -> Credentials
    ) -> AMQPPool {
        var configuration = PoolConfiguration(endpoints: [
            Endpoint(host: "127.0.0.1", port: broker.port, virtualHost: virtualHost)
        ])
        configuration.connections = connections
        configuration.connection = patient()
        configuration.connection.credentials = CredentialsProvider { _ in try credentials() }
        configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
        return AMQPPool(configuration: configuration)
    }

    @Test("A token is renewed again and again while messages are published and delivered: none is lost or comes twice")
    func renewal() async throws {
        try await Self.with { tokens, broker, virtualHost in
            let pool = Self.pool(broker, virtualHost, connections: 2) {
                Credentials(username: "", password: try tokens.token())
            }
            let deliveries = Recorder<(number: Int, redelivered: Bool)>()
            let root = Supervisor("app") {
                pool.supervisor
                Child.consumer("consumer", of: "q", on: pool) { channel in
                    try await channel.declareQueue("q")
                } handler: { delivery in
                    deliveries.append((Int(String(buffer: delivery.body)) ?? -1, delivery.redelivered))
                }
            }
            try await root.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await pool.withDedicatedChannel { _ = try await $0.declareQueue("q") }
            try await eventually("both are connected") {
                try await broker.connections(virtualHost: virtualHost).count == 2
            }
            let before = Set(try await broker.connections(virtualHost: virtualHost).map(\.name))
            let count = 3000
            async let published: Void = withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<10 {
                    group.addTask {
                        for number in stride(from: task, to: count, by: 10) {
                            try await pool.publish(ByteBuffer(string: "\(number)"), routingKey: "q", mandatory: true)
                        }
                    }
                }
                try await group.waitForAll()
            }
            for round in 1...8 {
                try await deliveries.wait(for: round * count / 10)
                try await pool.updateSecret(try tokens.token(), reason: String(repeating: "r", count: 255))
            }
            try await published
            try await deliveries.wait(for: count)
            #expect(Set(deliveries.values.map(\.number)).count == count)
            #expect(deliveries.values.count == count)
            #expect(!deliveries.values.contains { $0.redelivered })
            #expect(Set(try await broker.connections(virtualHost: virtualHost).map(\.name)) == before)
            await root.stop()
        }
    }

    @Test("A pool renews a token before it expires, on the same connection, and nothing is refused")
    func renewedInTime() async throws {
        try await Self.with { tokens, broker, virtualHost in
            let asked = Recorder<Int>()
            let pool = Self.pool(broker, virtualHost) {
                asked.append(1)
                // It lives longer than it says, whatever time the test takes.
                let lifetime = Duration.seconds(asked.values.count < 3 ? 2 : 3600)
                return Credentials(username: "", password: try tokens.token(), validFor: lifetime)
            }
            try await broker.declareQueue("q", virtualHost: virtualHost)
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            let before = try await broker.connections(virtualHost: virtualHost).map(\.name)
            while asked.values.count < 3 {
                try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
                await Task.yield()
            }
            try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
            #expect(try await broker.connections(virtualHost: virtualHost).map(\.name) == before)
            await pool.stop()
        }
    }

    @Test("Where a token cannot be renewed its connection ends with it, and the next one logs in anew")
    func expiry() async throws {
        try await Self.with { tokens, broker, virtualHost in
            let asked = Recorder<Int>()
            let pool = Self.pool(broker, virtualHost) {
                asked.append(1)
                switch asked.values.count {
                case 1: return Credentials(username: "", password: try tokens.token(), validFor: .seconds(2))
                case 2...4: throw TookTooLong()
                default: return Credentials(username: "", password: try tokens.token(), validFor: .seconds(3600))
                }
            }
            try await broker.declareQueue("q", virtualHost: virtualHost)
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            let before = try await broker.connections(virtualHost: virtualHost).map(\.name)
            var (confirmed, inDoubt) = (0, 0)
            // Whatever is published meanwhile ends with a confirm or an error that tells what is known.
            while asked.values.count < 5 {
                do throws(AMQPError) {
                    try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
                    confirmed += 1
                } catch {
                    if !error.isRetrySafe { inDoubt += 1 }
                }
                await Task.yield()
            }
            try await eventually("it publishes again") {
                await failure { () async throws(AMQPError) in
                    try await pool.publish(ByteBuffer(), routingKey: "q", mandatory: true, timeout: .seconds(60))
                } == nil
            }
            let messages = try #require(try await broker.queue("q", virtualHost: virtualHost)).messages
            #expect((confirmed + 1...confirmed + 1 + inDoubt).contains(messages))
            #expect(try await broker.connections(virtualHost: virtualHost).map(\.name) != before)
            await pool.stop()
        }
    }

    @Test("A token that has expired, or that nobody has signed, is refused, and the error says so without it")
    func refused() async throws {
        try await Self.with { tokens, broker, virtualHost in
            let stranger = try OAuthTokens()
            for token in [try tokens.token(lifetime: .seconds(-60)), try stranger.token(), "no token"] {
                let pool = Self.pool(broker, virtualHost) { Credentials(username: "", password: token) }
                try await pool.start()
                try await eventually("it is refused") {
                    let error = await failure { () async throws(AMQPError) in
                        try await pool.waitUntilReady(timeout: .milliseconds(200))
                    }
                    let text = "\(String(describing: error))"
                    #expect(!text.contains(token))
                    return text.contains("ACCESS_REFUSED")
                }
                await pool.stop()
            }
        }
    }

    @Test("An update with a token that is refused ends the connection, with the broker's words, and it comes back")
    func refusedUpdate() async throws {
        try await Self.with { tokens, broker, virtualHost in
            let pool = Self.pool(broker, virtualHost) { Credentials(username: "", password: try tokens.token()) }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            let token = try OAuthTokens().token()
            let error = await failure { () async throws(AMQPError) in
                try await pool.updateSecret(token)
            }
            #expect(error?.replyCode == 530, "\(String(describing: error))")
            #expect(!"\(String(describing: error))".contains(token))
            try await pool.publish(ByteBuffer(), routingKey: "anywhere", timeout: .seconds(60))
            await pool.stop()
        }
    }

    @Test("A right that the next token lacks is refused to who needs it, and the others go on")
    func fewerRights() async throws {
        try await Self.with { tokens, broker, virtualHost in
            let pool = Self.pool(broker, virtualHost) { Credentials(username: "", password: try tokens.token()) }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await pool.withDedicatedChannel { channel in
                try await channel.declareExchange("mine", type: .fanout)
                try await channel.declareExchange("theirs", type: .fanout)
            }
            try await pool.publish(ByteBuffer(), exchange: "theirs", routingKey: "")
            try await pool.updateSecret(try tokens.token(rights: ["write:*/mine"]))
            try await eventually("the right is gone") {
                let error = await failure { () async throws(AMQPError) in
                    try await pool.publish(ByteBuffer(), exchange: "theirs", routingKey: "", timeout: .seconds(60))
                }
                guard let error else { return false }
                #expect(error.replyCode == 403, "\(error)")
                return true
            }
            for _ in 0..<20 {
                try await pool.publish(ByteBuffer(), exchange: "mine", routingKey: "", timeout: .seconds(60))
            }
            await pool.stop()
        }
    }
}
