import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Testing

@testable import AMQPPool

@Suite("Waiting until a pool is ready")
struct WaitUntilReadyTests {
    private struct Secret: Error, CustomStringConvertible {
        var description: String { "s3cret" }
    }

    /// Runs a pool until the error of those who wait satisfies the condition.
    private func waits(
        _ endpoints: [Endpoint],
        onOpen: @escaping @Sendable (AMQPChannel) async throws -> Void = { _ in },
        until isExpected: @escaping @Sendable ([AMQPError.EndpointFailure], String) -> Bool
    ) async throws {
        var configuration = PoolConfiguration(endpoints: endpoints)
        configuration.connection = patient()
        configuration.backoff = Backoff(minimum: .milliseconds(5), maximum: .milliseconds(50), jitter: 0)
        let pool = AMQPPool(configuration: configuration, onOpen: onOpen)
        try await pool.start()
        try await eventually("the error tells") {
            let error = await failure { () async throws(AMQPError) in
                try await pool.waitUntilReady(timeout: .milliseconds(20))
            }
            guard case .notSent(.notConnected(let failures)) = error else { return false }
            let text = "\(String(describing: error)) \(String(reflecting: error))"
            #expect(!text.contains("s3cret"))
            return isExpected(failures, text)
        }
        await pool.stop()
    }

    @Test("The error tells what failed at each endpoint, how often, and at which stage")
    func stages() async throws {
        try await TestBroker.withVirtualHost { broker, _, virtualHost in
            let peer = try await ScriptedPeer.start()
            let refused = Endpoint(host: "127.0.0.1", port: peer.port, password: "s3cret")
            await peer.stop()
            let wrong = Endpoint(host: "127.0.0.1", port: broker.port, username: "guest", password: "s3cret")
            let missing = Endpoint(host: "127.0.0.1", port: broker.port, virtualHost: "missing")
            let plain = Endpoint(host: "127.0.0.1", port: broker.port, password: "s3cret", tls: true)
            let literal: Endpoint = "amqp://me:s3cret@ho st"
            try await waits([refused, wrong, missing, plain, literal]) { failures, _ in
                guard failures.count == 5, failures.allSatisfy({ $0.attempts >= 2 }) else { return false }
                var stages: [String: AMQPError.Stage] = [:]
                for failure in failures { stages[failure.endpoint] = failure.error.stage }
                #expect(stages[refused.redacted] == .connect)
                #expect(stages[wrong.redacted] == .authenticate)
                #expect(stages[missing.redacted] == .openVirtualHost)
                #expect(stages[plain.redacted] == .encrypt)
                #expect(stages[literal.redacted] == .connect)
                #expect("\(failures[0])".contains("attempts)"))
                return true
            }
        }
    }

    @Test("An attempt that has not ended is told too, with how long it has been going on")
    func running() async throws {
        let peer = try await ScriptedPeer.start()
        try await waits([peer.endpoint]) { failures, text in
            guard failures.count == 1 else { return false }
            #expect(failures[0].endpoint == peer.endpoint.redacted)
            return text.contains("the attempt has not ended after")
        }
        await peer.stop()
    }

    @Test("A channel that cannot be set up is told: the broker's answer, or the type of an error of the user's")
    func setUp() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let endpoint = try Endpoint(url: url)
            try await waits([endpoint], onOpen: { try await $0.declareQueue("absent", passive: true) }) { _, text in
                text.contains("404 NOT_FOUND - no queue 'absent'")
            }
            try await waits([endpoint], onOpen: { _ in throw Secret() }) { failures, text in
                guard case .setUpFailed = failures.first?.error else { return false }
                return text.contains("it threw Secret")
            }
        }
    }
}
