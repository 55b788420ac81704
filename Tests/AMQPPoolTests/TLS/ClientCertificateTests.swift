import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import NIOSSL
import Supervision
import Testing

@testable import AMQPPool

@Suite("A client certificate")
struct ClientCertificateTests {
    @Test("A broker that demands one refuses who has none, or one it does not believe", arguments: [true, false])
    func demanded(_ tls13: Bool) async throws {
        try await TestCertificates.with { strangers in
            let stranger = try strangers.make("stranger")
            try await TestBroker.withVirtualHost { broker, _, virtualHost in
                try await TestCertificates.with { certificates in
                    let server = try certificates.make("server", names: TLSTests.localhost)
                    let client = try certificates.make("client")
                    let terminator = try await TLSTerminator.start(to: broker.port, showing: server) { configuration in
                        configuration.certificateVerification = .noHostnameVerification
                        configuration.trustRoots = .file(certificates.authority)
                        configuration.maximumTLSVersion = tls13 ? .tlsv13 : .tlsv12
                    }
                    let peer = EncryptedPeer(
                        certificates: certificates,
                        port: terminator.port,
                        virtualHost: virtualHost
                    )
                    var settings = TLSSettings()
                    let missing = await peer.failure(try peer.trusted(), settings)
                    switch missing {
                    // TLS 1.2 has no alert of its own for it.
                    case .clientCertificateMissing where tls13: break
                    case .nothingInCommon where !tls13: break
                    case .endedAfterHandshake: break
                    default: Issue.record("\(String(describing: missing))")
                    }
                    settings.clientCertificate = .files(certificate: stranger.certificate, key: stranger.key)
                    let refused = await peer.failure(try peer.trusted(), settings)
                    switch refused {
                    case .clientCertificateRefused, .endedAfterHandshake: break
                    default: Issue.record("\(String(describing: refused))")
                    }
                    settings.clientCertificate = .files(certificate: client.certificate, key: client.key)
                    #expect(await peer.failure(try peer.trusted(), settings) == nil)
                    await terminator.stop()
                }
            }
        }
    }

    @Test("A real broker with TLS takes it, and with EXTERNAL the user from it", .timeLimit(.minutes(5)))
    func realBroker() async throws {
        try await TestCertificates.with { certificates in
            let server = try certificates.make("server", names: TLSTests.localhost)
            let client = try certificates.make("shop")
            var options = TestBroker.options
            options.tls = LocalBroker.TLS(
                certificate: server.certificate,
                key: server.key,
                authorities: certificates.authority,
                demandsClientCertificate: true
            )
            options.plugins = ["rabbitmq_auth_mechanism_ssl"]
            options.configuration = """
                auth_mechanisms.1 = PLAIN
                auth_mechanisms.2 = EXTERNAL
                ssl_cert_login_from = common_name
                """
            try await TestBroker.own(options) { broker in
                try await broker.createUser("shop", password: UUID().uuidString)
                let url = try #require(broker.tlsURL)
                let files = "cacertfile=\(certificates.authority)&certfile=\(client.certificate)&keyfile=\(client.key)"
                try await publishes(to: try Endpoint(url: "\(url)?\(files)"))
                try await publishes(to: try Endpoint(url: "\(url)?\(files)&auth_mechanism=external"))
                try await refuses(try Endpoint(url: "\(url)?cacertfile=\(certificates.authority)")) { failure in
                    switch failure {
                    case .clientCertificateMissing, .nothingInCommon, .endedAfterHandshake: true
                    default: false
                    }
                }
                try await refuses(try Endpoint(url: "\(url)?\(files)&server_name_indication=other")) { failure in
                    if case .wrongHost("other", _) = failure { true } else { false }
                }
                try await survivesPause(broker, try Endpoint(url: "\(url)?\(files)"))
                try await survivesKill(broker, try Endpoint(url: "\(url)?\(files)"))
            }
        }
    }

    private func publishes(to endpoint: Endpoint) async throws {
        let connection = try await AMQPConnection.open(endpoint, configuration: patient())
        let channel = try await connection.openChannel()
        let queue = try await channel.declareQueue("", exclusive: true).name
        let body = ByteBuffer(repeating: 7, count: 300_000)
        try await channel.publish(body, routingKey: queue, mandatory: true)
        #expect(try await channel.get(queue: queue)?.body == body)
        await connection.close()
    }

    private func refuses(_ endpoint: Endpoint, _ isExpected: (TLSFailure) -> Bool) async throws {
        let error = await failure { () async throws(AMQPError) in
            try await AMQPConnection.open(endpoint, configuration: patient())
        }
        guard case .tlsFailed(_, let failure) = error, isExpected(failure) else {
            Issue.record("\(endpoint.security): \(String(describing: error))")
            return
        }
    }

    /// Two heartbeats of silence are the end, as without TLS; closing is bounded.
    private func survivesPause(_ broker: LocalBroker, _ endpoint: Endpoint) async throws {
        var configuration = patient()
        configuration.heartbeat = .seconds(1)
        let connection = try await AMQPConnection.open(endpoint, configuration: configuration)
        try await broker.pause()
        guard case .heartbeatTimeout = await connection.waitUntilClosed() else {
            Issue.record("\(String(describing: connection.closedError))")
            return
        }
        try await broker.resume()
    }

    private func survivesKill(_ broker: LocalBroker, _ endpoint: Endpoint) async throws {
        var configuration = PoolConfiguration(endpoints: [endpoint])
        configuration.connection = patient()
        configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(100), jitter: 0)
        let pool = AMQPPool(configuration: configuration) { channel in
            try await channel.declareQueue("kept", durable: true)
        }
        try await pool.start()
        try await pool.publish(ByteBuffer(string: "1"), routingKey: "kept", mandatory: true, timeout: .seconds(60))
        try await broker.kill()
        try await broker.startAgain()
        try await pool.publish(ByteBuffer(string: "2"), routingKey: "kept", mandatory: true, timeout: .seconds(60))
        await pool.stop()
    }
}
