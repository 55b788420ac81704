import Foundation
import LocalBroker
import TestTurns

/// Brokers for tests.
///
/// A node takes seconds and 140 MB to start, so the tests of one process share one, and each has a virtual host of its
/// own in it. Only a test that takes its node away starts one for itself.
///
/// With `LOCAL_BROKER_KEEP=1` in the environment the brokers leave their folders, with their logs, in the temporary
/// folder.
public enum TestBroker {
    /// Runs `body` with a fresh virtual host of the broker that all tests of this process share.
    ///
    /// The broker is started at the first use, and ends with the process. Nothing may be done to it that other tests
    /// would notice: not killed, paused, or put in alarm. The virtual host is deleted afterwards, with all that is in
    /// it, also when `body` throws.
    public static func withVirtualHost<Result: Sendable>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (_ broker: LocalBroker, _ url: String, _ virtualHost: String) async throws -> Result
    ) async throws -> Result {
        await virtualHosts.enter()
        defer { virtualHosts.leave() }
        let broker = try await shared.value
        let virtualHost = "test-\(UUID().uuidString.lowercased())"
        try await broker.createVirtualHost(virtualHost)
        let result: Result
        do {
            result = try await body(broker, broker.url(virtualHost: virtualHost), virtualHost)
        } catch {
            await delete(virtualHost, from: broker)
            throw error
        }
        await delete(virtualHost, from: broker)
        return result
    }

    /// Runs `body` with a broker of its own, which it may do anything to. Afterwards nothing of it is left, also when
    /// `body` throws.
    public static func own<Result: Sendable>(
        _ options: LocalBroker.Options = options,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (_ broker: LocalBroker) async throws -> Result
    ) async throws -> Result {
        await ownBrokers.enter()
        defer { ownBrokers.leave() }
        let broker = try await LocalBroker.start(options)
        let result: Result
        do {
            result = try await body(broker)
        } catch {
            await broker.shutdown()
            throw error
        }
        await broker.shutdown()
        return result
    }

    /// Runs `body` with a cluster of its own, which it may do anything to. Afterwards nothing of it is left, also when `body` throws.
    public static func withCluster<Result: Sendable>(
        nodes: Int = 3,
        isolation: isolated (any Actor)? = #isolation,
        _ body: (_ cluster: LocalBrokerCluster) async throws -> Result
    ) async throws -> Result {
        let cluster = try await LocalBrokerCluster.start(nodes: nodes, options)
        let result: Result
        do {
            result = try await body(cluster)
        } catch {
            await cluster.shutdown()
            throw error
        }
        await cluster.shutdown()
        return result
    }

    /// The version of RabbitMQ that the tests run against. Starts the shared broker.
    public static func version() async throws -> BrokerVersion { try await shared.value.version }

    /// Whether the broker takes a queue that is neither durable nor exclusive. RabbitMQ 4.3 and later do not, unless they are
    /// configured to, as Debian's packages are. Starts the shared broker.
    public static func permitsTransientQueues() async throws -> Bool { try await transientQueues.value }

    private static let transientQueues = Task.detached {
        try await withVirtualHost { broker, _, virtualHost in
            do {
                try await broker.declareQueue("transient", durable: false, virtualHost: virtualHost)
                return true
            } catch LocalBrokerError.requestFailed {
                return false
            }
        }
    }

    /// Patient ones: test machines are busy.
    public static var options: LocalBroker.Options {
        var options = LocalBroker.Options(startTimeout: .seconds(180), requestTimeout: .seconds(60))
        options.keepsFiles = ProcessInfo.processInfo.environment["LOCAL_BROKER_KEEP"] == "1"
        return options
    }

    /// How many tests use the shared broker at a time. A test that is inside does not ask for a second place.
    private static let virtualHosts = Turnstile(places: 8)

    /// How many tests have a broker of their own at a time.
    private static let ownBrokers = Turnstile(places: 2)

    /// A detached task: the test that happens to be the first may be cancelled, the broker is for all.
    private static let shared = Task.detached { try await LocalBroker.start(options) }

    /// Also in a cancelled test, hence in a task of its own. A failure is not the test's: the broker ends soon.
    private static func delete(_ virtualHost: String, from broker: LocalBroker) async {
        await Task.detached { try? await broker.deleteVirtualHost(virtualHost) }.value
    }
}
