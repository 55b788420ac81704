import BrokerSupport
import Foundation
import LocalBroker
import NIOCore
import NIOSSL
import Supervision
import Testing

@testable import AMQPPool

@Suite("An encrypted connection")
struct TLSTests {
    static let localhost = ["DNS:localhost", "IP:127.0.0.1"]

    @Test("A broker is connected to by name and by address, with the authority in the URI or in the settings")
    func connects() async throws {
        try await withPeer(showing: Self.localhost) { peer in
            for host in ["localhost", "127.0.0.1"] {
                let endpoint = try peer.endpoint(host, "cacertfile=\(peer.certificates.authority)")
                #expect(await peer.failure(endpoint) == nil, "\(host)")
            }
            var settings = TLSSettings()
            settings.authorities = .file(peer.certificates.authority)
            settings.minimumVersion = .tls13
            #expect(await peer.failure(try peer.endpoint(), settings) == nil)
            settings.authorities = .pem(try String(contentsOfFile: peer.certificates.authority, encoding: .utf8))
            settings.minimumVersion = .tls12
            #expect(await peer.failure(try peer.endpoint(), settings) == nil)
        }
    }

    @Test("Bodies of any size arrive whole, both ways")
    func bodies() async throws {
        try await withPeer(showing: Self.localhost) { peer in
            let connection = try await AMQPConnection.open(peer.trusted(), configuration: patient())
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q")
            for size in [0, 1, 16_384, 131_064, 4_000_000] {
                let body = ByteBuffer(bytes: (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) })
                try await channel.publish(body, routingKey: "q", mandatory: true)
                #expect(try await channel.get(queue: "q", noAck: true)?.body == body)
            }
            await connection.close()
            #expect(connection.closedError.map { if case .connectionClosed = $0 { true } else { false } } == true)
        }
    }

    @Test("A certificate for another host is refused, and named; the name to ask for can be another than the host")
    func wrongHost() async throws {
        try await withPeer(showing: ["DNS:broker.example", "IP:10.0.0.1"]) { peer in
            for host in ["localhost", "127.0.0.1"] {
                let endpoint = try peer.endpoint(host, "cacertfile=\(peer.certificates.authority)")
                guard case .wrongHost(host, let certificate) = await peer.failure(endpoint) else {
                    Issue.record("\(String(describing: await peer.failure(endpoint)))")
                    continue
                }
                #expect(certificate.contains("broker.example"))
            }
            let named = "cacertfile=\(peer.certificates.authority)&server_name_indication=broker.example"
            #expect(await peer.failure(try peer.endpoint("127.0.0.1", named)) == nil)
            var settings = TLSSettings()
            settings.authorities = .file(peer.certificates.authority)
            settings.verification = .insecureAnyHost
            #expect(await peer.failure(try peer.endpoint(), settings) == nil)
            settings.serverName = "10.0.0.1"
            settings.verification = .full
            #expect(await peer.failure(try peer.endpoint(), settings) == .invalidServerName("10.0.0.1"))
        }
    }

    @Test("A certificate for the address does not do where a name was asked for")
    func addressInPlaceOfName() async throws {
        try await withPeer(showing: ["DNS:broker.example", "IP:127.0.0.1"]) { peer in
            let authority = "cacertfile=\(peer.certificates.authority)"
            #expect(await peer.failure(try peer.endpoint("127.0.0.1", authority)) == nil)
            let named = try peer.endpoint("127.0.0.1", authority + "&server_name_indication=other.example")
            guard case .wrongHost("other.example", _) = await peer.failure(named) else {
                Issue.record("\(String(describing: await peer.failure(named)))")
                return
            }
        }
    }

    @Test(
        "A name of a certificate covers a host's as it is, or with an asterisk for its first label",
        arguments: [
            ("broker.example", "broker.example", true), ("Broker.EXAMPLE.", "broker.example", true),
            ("broker.example", "Broker.Example.", true), ("localhost", "localhost", true),
            ("*.shop.example", "broker.shop.example", true), ("*.shop.example", "shop.example", false),
            ("*.shop.example", "a.b.shop.example", false), ("*.example", "broker.example", false),
            ("*", "localhost", false), ("b*.shop.example", "broker.shop.example", false),
            ("broker.*.example", "broker.shop.example", false), ("*.shop.example", ".shop.example", false),
            ("", "", false), (".", ".", false), ("broker.example\0", "broker.example", false),
        ]
    )
    func names(_ pattern: String, _ name: String, _ isCovered: Bool) {
        #expect(ServerIdentity.covers(pattern: Array(pattern.utf8), name: name) == isCovered)
    }

    @Test("A certificate that has expired, or is not valid yet, is refused", arguments: [true, false])
    func dates(_ expired: Bool) async throws {
        try await withPeer(showing: Self.localhost, validity: expired ? .expired : .notYet) { peer in
            switch (expired, await peer.failure(try peer.trusted())) {
            case (true, .expired(let certificate)), (false, .notYetValid(let certificate)):
                #expect(certificate.contains("common_name=server"))
            case (_, let other): Issue.record("\(String(describing: other))")
            }
        }
    }

    @Test("A certificate that no authority has signed is refused, unless the settings say loudly that any will do")
    func unknownAuthority() async throws {
        try await withPeer(showing: Self.localhost) { peer in
            guard case .unknownAuthority = await peer.failure(try peer.endpoint()) else {
                Issue.record("\(String(describing: await peer.failure(try peer.endpoint())))")
                return
            }
            #expect(await peer.failure(try peer.endpoint("localhost", "verify=verify_none")) == nil)
            var settings = TLSSettings()
            settings.verification = .insecureAnyCertificate
            // What the URI says wins.
            let strict = try peer.endpoint("localhost", "verify=verify_peer")
            guard case .unknownAuthority = await peer.failure(strict, settings) else {
                Issue.record("\(String(describing: await peer.failure(strict, settings)))")
                return
            }
        }
    }

    @Test("A peer that does not speak TLS is named as such, and gets nothing of AMQP")
    func plain() async throws {
        let peer = try await ScriptedPeer.start()
        let opening = Task {
            await AMQPPoolTests.failure { () async throws(AMQPError) in
                try await AMQPConnection.open(
                    Endpoint(host: "localhost", port: peer.port, tls: true),
                    configuration: patient()
                )
            }
        }
        try await peer.connected.wait(for: 1)
        // What a broker says on its other port.
        try await peer.send(bytes: ByteBuffer(bytes: Array("AMQP".utf8) + [0, 0, 9, 1]))
        guard case .tlsFailed(_, .notTLS) = await opening.value else {
            Issue.record("\(String(describing: await opening.value))")
            return
        }
        await peer.stop()
    }

    @Test("The port of a broker that is not encrypted ends the handshake")
    func otherPort() async throws {
        try await TestBroker.withVirtualHost { broker, _, _ in
            let error = await AMQPPoolTests.failure { () async throws(AMQPError) in
                try await AMQPConnection.open(Endpoint(host: "localhost", port: broker.port, tls: true))
            }
            // The broker's answer may be lost, since it has not read all of the hello when it hangs up.
            switch error {
            case .tlsFailed(_, .notTLS), .tlsFailed(_, .endedInHandshake): break
            default: Issue.record("\(String(describing: error))")
            }
            #expect(error?.stage == .encrypt && error?.isRetrySafe == true)
            #expect("\(String(describing: error))".contains("localhost"))
        }
    }

    @Test("A peer that says nothing in the handshake is given up at the deadline, and one that hangs up is named")
    func silent() async throws {
        let peer = try await ScriptedPeer.start()
        var configuration = ConnectionConfiguration()
        // Time to read the authorities of the system too.
        configuration.connectTimeout = .seconds(3)
        let endpoint = Endpoint(host: "127.0.0.1", port: peer.port, tls: true)
        let late = await AMQPPoolTests.failure { () async throws(AMQPError) in
            try await AMQPConnection.open(endpoint, configuration: configuration)
        }
        guard case .tlsFailed(_, .timedOut(.seconds(3))) = late else {
            Issue.record("\(String(describing: late))")
            return
        }
        try await peer.ended.wait(for: 1)
        let opening = Task {
            await AMQPPoolTests.failure { () async throws(AMQPError) in
                try await AMQPConnection.open(endpoint, configuration: patient())
            }
        }
        try await peer.connected.wait(for: 2)
        await peer.cut()
        guard case .tlsFailed(_, .endedInHandshake) = await opening.value else {
            Issue.record("\(String(describing: await opening.value))")
            return
        }
        let cancelled = Task {
            await AMQPPoolTests.failure { () async throws(AMQPError) in
                try await AMQPConnection.open(endpoint, configuration: patient())
            }
        }
        try await peer.connected.wait(for: 3)
        cancelled.cancel()
        guard case .cancelled = await cancelled.value else {
            Issue.record("\(String(describing: await cancelled.value))")
            return
        }
        try await peer.ended.wait(for: 3)
        await peer.stop()
    }

    @Test("Two sides without a common version of TLS are told so")
    func versions() async throws {
        try await withPeer(showing: Self.localhost, change: { $0.maximumTLSVersion = .tlsv12 }) { peer in
            var settings = TLSSettings()
            settings.minimumVersion = .tls13
            guard case .nothingInCommon = await peer.failure(try peer.trusted(), settings) else {
                Issue.record("\(String(describing: await peer.failure(try peer.trusted(), settings)))")
                return
            }
            #expect(await peer.failure(try peer.trusted()) == nil)
        }
    }

    @Test("Files that are missing, empty, no PEM, or do not fit each other are named before anything is connected")
    func files() async throws {
        try await TestCertificates.with { certificates in
            let pair = try certificates.make("client")
            let other = try certificates.make("other")
            let empty = try certificates.write("", to: "empty")
            let locked = try certificates.encrypt(pair, passphrase: "s3cret")
            func failure(_ change: (inout TLSSettings) -> Void) -> TLSFailure? {
                var settings = TLSSettings()
                change(&settings)
                do throws(TLSFailure) {
                    _ = try TLSSession(host: "localhost", settings)
                    return nil
                } catch {
                    #expect(!"\(error)".contains("s3cret"))
                    return error
                }
            }
            func failure(_ certificate: String, _ key: String, _ passphrase: String? = nil) -> TLSFailure? {
                failure { settings in
                    settings.clientCertificate = .files(certificate: certificate, key: key, passphrase: passphrase)
                }
            }
            #expect(
                failure { $0.authorities = .file("/no/such") }
                    == .unreadableFile(path: "/no/such", reason: "no such file or directory")
            )
            #expect(failure { $0.authorities = .file(empty) } == .noCertificate(source: empty))
            #expect(failure { $0.authorities = .file(pair.key) } == .noCertificate(source: pair.key))
            #expect(failure { $0.authorities = .pem("") } == .noCertificate(source: "the text given"))
            #expect(failure(pair.certificate, pair.key) == nil)
            #expect(failure(pair.key, pair.key) == .noCertificate(source: pair.key))
            #expect(failure(pair.certificate, pair.certificate) == .unusableKey(source: pair.certificate))
            #expect(failure(pair.certificate, empty) == .unusableKey(source: empty))
            #expect(failure(pair.certificate, other.key) == .keyDoesNotFitCertificate)
            #expect(failure(locked.certificate, locked.key, "s3cret") == nil)
            #expect(failure(locked.certificate, locked.key, "wr0ng") == .unusableKey(source: locked.key))
            #expect(failure(locked.certificate, locked.key) == .unusableKey(source: locked.key))
            let secret = ClientCertificate.files(certificate: "c", key: "k", passphrase: "s3cret")
            var dumped = ""
            dump(secret, to: &dumped)
            #expect(!("\(secret) \(String(reflecting: secret)) " + dumped).contains("s3cret"))
            let error = await AMQPPoolTests.failure { () async throws(AMQPError) in
                try await AMQPConnection.open("amqps://localhost:1?cacertfile=/no/such")
            }
            guard case .tlsFailed("amqps://localhost:1", .unreadableFile("/no/such", _)) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    @Test("A pool reads renewed certificates at the next attempt, and names what was wrong until then")
    func renewal() async throws {
        try await withPeer(showing: Self.localhost) { peer in
            let file = try peer.certificates.write("", to: "renewed.pem")
            var configuration = PoolConfiguration(endpoints: [try peer.endpoint("localhost", "cacertfile=\(file)")])
            configuration.connection = patient()
            configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            try await eventually("the error names the file") {
                let error = await AMQPPoolTests.failure { () async throws(AMQPError) in
                    try await pool.waitUntilReady(timeout: .milliseconds(10))
                }
                guard case .notSent(.notConnected(let failures)) = error else { return false }
                return failures.contains { failure in
                    if case .tlsFailed(_, .noCertificate(file)) = failure.error { true } else { false }
                }
            }
            try peer.certificates.write(
                String(contentsOfFile: peer.certificates.authority, encoding: .utf8),
                to: "renewed.pem"
            )
            try await pool.waitUntilReady(timeout: .seconds(60))
            await pool.stop()
        }
    }
}

// MARK: - Peers

/// A broker behind TLS, with a virtual host of its own.
struct EncryptedPeer: Sendable {
    let certificates: TestCertificates
    let port: Int
    let virtualHost: String

    func endpoint(_ host: String = "localhost", _ query: String = "") throws -> Endpoint {
        try Endpoint(url: "amqps://\(host):\(port)/\(virtualHost)?\(query)")
    }

    func trusted() throws -> Endpoint { try endpoint("localhost", "cacertfile=\(certificates.authority)") }

    /// Why a connection could not be encrypted; nil if it could. Fails the test for any other reason.
    func failure(_ endpoint: Endpoint, _ settings: TLSSettings = TLSSettings()) async -> TLSFailure? {
        var configuration = patient()
        configuration.tls = settings
        do {
            let connection = try await AMQPConnection.open(endpoint, configuration: configuration)
            await connection.close()
            return nil
        } catch .tlsFailed(_, let failure) {
            return failure
        } catch {
            Issue.record("\(error)")
            return nil
        }
    }
}

func withPeer(
    showing names: [String],
    validity: TestCertificates.Validity = .now,
    change: (inout TLSConfiguration) -> Void = { _ in },
    _ body: (EncryptedPeer) async throws -> Void
) async throws {
    try await TestBroker.withVirtualHost { broker, _, virtualHost in
        try await TestCertificates.with { certificates in
            let pair = try certificates.make("server", names: names, validity: validity)
            let terminator = try await TLSTerminator.start(to: broker.port, showing: pair, change)
            do {
                try await body(
                    EncryptedPeer(certificates: certificates, port: terminator.port, virtualHost: virtualHost)
                )
            } catch {
                await terminator.stop()
                throw error
            }
            await terminator.stop()
        }
    }
}

func patient() -> ConnectionConfiguration {
    var configuration = ConnectionConfiguration()
    configuration.connectTimeout = .seconds(60)
    configuration.operationTimeout = .seconds(60)
    configuration.closeTimeout = .seconds(60)
    return configuration
}
