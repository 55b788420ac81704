import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("Logging in")
struct CredentialsTests {
    private static func configuration(
        _ provide: @escaping @Sendable (Endpoint) async throws -> Credentials
    ) -> ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        configuration.connectTimeout = .seconds(60)
        configuration.operationTimeout = .seconds(60)
        configuration.credentials = CredentialsProvider(provide)
        return configuration
    }

    @Test("The credentials of a provider win, and it is asked at each attempt")
    func provider() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let asked = Recorder<String>()
            var configuration = PoolConfiguration(endpoints: [
                Endpoint(host: "127.0.0.1", port: broker.port, virtualHost: virtualHost, username: "x", password: "y")
            ])
            configuration.connections = 1
            configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
            configuration.connection = Self.configuration { endpoint in
                asked.append(endpoint.redacted)
                guard asked.values.count > 1 else { return Credentials(username: "guest", password: "wrong") }
                return Credentials(username: "guest", password: "guest")
            }
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            #expect(asked.values.count == 2)
            for connection in try await broker.connections(virtualHost: virtualHost) {
                try await broker.dropConnection(connection.name)
            }
            try await asked.wait(for: 3)
            try await pool.waitUntilReady(timeout: .seconds(60))
            await pool.stop()
        }
    }

    @Test("A provider that throws, or is late, fails the attempt, and nothing it says is shown")
    func providerFails() async throws {
        struct Leaky: Error, CustomStringConvertible {
            var description: String { "s3cret" }
        }
        let endpoint = Endpoint(host: "127.0.0.1", port: 1)
        let thrown = await failure { () async throws(AMQPError) in
            try await AMQPConnection.open(endpoint, configuration: Self.configuration { _ in throw Leaky() })
        }
        guard case .handshakeFailed(_, .authenticate, let reason) = thrown else {
            Issue.record("\(String(describing: thrown))")
            return
        }
        #expect(reason.contains("Leaky") && !reason.contains("s3cret"))
        var configuration = Self.configuration { _ in
            try await Gate().passed()
            throw Leaky()
        }
        configuration.connectTimeout = .milliseconds(20)
        let late = await failure { () async throws(AMQPError) in
            try await AMQPConnection.open(endpoint, configuration: configuration)
        }
        #expect("\(String(describing: late))".contains("no credentials within"))
        let credentials = Credentials(username: "me", password: "s3cret")
        var dumped = ""
        dump(credentials, to: &dumped)
        #expect(!("\(credentials) \(String(reflecting: credentials)) " + dumped).contains("s3cret"))
    }

    @Test("EXTERNAL is used when the URI wants it and the broker offers it, and sends no password")
    func external() async throws {
        let peer = try await ScriptedPeer.start()
        let endpoint = try Endpoint(
            url: "amqp://me:s3cret@127.0.0.1:\(peer.port)?auth_mechanism=external&auth_mechanism=plain"
        )
        let opening = Task {
            await failure { () async throws(AMQPError) in try await AMQPConnection.open(endpoint) }
        }
        try await peer.connected.wait(for: 1)
        try await peer.send(
            .connectionStart(
                ConnectionStart(
                    versionMajor: 0,
                    versionMinor: 9,
                    serverProperties: [:],
                    mechanisms: "PLAIN EXTERNAL",
                    locales: "en_US"
                )
            )
        )
        try await peer.wait { method in
            guard case .connectionStartOK(_, "EXTERNAL", let response, _) = method else { return false }
            return response.isEmpty
        }
        await peer.stop()
        _ = await opening.value
    }

    @Test("A broker that does not offer what the URI wants is named with what it offers")
    func notOffered() async throws {
        try await TestBroker.withVirtualHost { broker, _, _ in
            let endpoint = try Endpoint(url: "amqp://127.0.0.1:\(broker.port)?auth_mechanism=external")
            let error = await failure { () async throws(AMQPError) in try await AMQPConnection.open(endpoint) }
            #expect("\(String(describing: error))".contains("does not offer EXTERNAL authentication, but:"))
        }
    }

    @Test("A real broker takes a new secret, on a connection and on all of a pool")
    func updateSecret() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let pool = try RunningConsumer.pool(url)
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            try await pool.updateSecret("n3w")
            try await pool.withChannel { channel in
                for _ in 0..<3 { try await channel.connection.updateSecret("n3w", reason: "test") }
            }
            try await pool.publish(ByteBuffer(), routingKey: "anywhere")
            await pool.stop()
        }
    }

    @Test("An update of the secret has a deadline, its late answer is absorbed, and the end of the connection ends it")
    func updateSecretUnanswered() async throws {
        let peer = try await ScriptedPeer.start()
        async let opening = AMQPConnection.open(peer.endpoint, configuration: .patient)
        try await peer.greet()
        let connection = try await opening
        let late = await failure { () async throws(AMQPError) in
            try await connection.updateSecret("n3w-s3cret", timeout: .milliseconds(10))
        }
        guard case .timedOut("connection.update-secret", _) = late else {
            Issue.record("\(String(describing: late))")
            return
        }
        let second = Task {
            await failure { () async throws(AMQPError) in
                try await connection.updateSecret("n3w-s3cret", timeout: .seconds(60))
            }
        }
        try await peer.received.wait { frames in
            frames.count { if case .method(0, .connectionUpdateSecret) = $0 { true } else { false } } == 2
        }
        // The answer to the first does not answer the second.
        try await peer.send(.connectionUpdateSecretOK)
        try await peer.send(
            .connectionClose(CloseReason(replyCode: 530, replyText: "refused"))
        )
        let error = await second.value
        #expect(error?.replyCode == 530)
        #expect(!"\(String(describing: error))".contains("s3cret"))
        await peer.stop()
    }
}
