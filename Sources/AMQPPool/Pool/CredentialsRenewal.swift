internal import ConcurrencyPrimitives
import Logging

/// Renews a connection's credentials before they expire.
struct CredentialsRenewal: Sendable {
    private enum Outcome {
        /// `nil`: they do not expire.
        case renewed(CredentialsLease?)
        case expired
        /// They are no longer needed.
        case over
    }

    private let connection: AMQPConnection
    private let provider: CredentialsProvider
    private let lease: CredentialsLease
    private let timeout: Duration
    private let logger: Logger

    /// Returns `nil` if nothing expires, or there is no provider.
    init?(of connection: AMQPConnection, configuration: ConnectionConfiguration, logger: Logger) {
        guard let provider = configuration.credentials, let lease = connection.credentialsLease else { return nil }
        self.connection = connection
        self.provider = provider
        self.lease = lease
        timeout = configuration.connectTimeout.bounded
        self.logger = logger
    }

    /// Runs until the task is cancelled, the connection is closed, or its credentials do not expire any more.
    ///
    /// Whether a broker closes a connection with expired credentials, or only refuses each operation, depends on its version. The
    /// connection is therefore closed, and the next one logs in again.
    func run() async {
        var lease = lease
        while await sleep(until: lease.renewal) {
            switch await renewed(before: lease.expiry) {
            case .renewed(let next?): lease = next
            case .renewed(nil), .over: return
            case .expired: return await connection.close()
            }
        }
    }

    private func renewed(before expiry: ContinuousClock.Instant) async -> Outcome {
        while !Task.isCancelled, connection.closedError == nil {
            do throws(AMQPError) {
                let credentials = try await provider.credentials(for: connection.endpoint, timeout: timeout)
                let lease = CredentialsLease(credentials)
                try await connection.updateSecret(credentials.password, reason: "the credentials expire")
                return .renewed(lease)
            } catch {
                guard !Task.isCancelled else { return .over }
                logger.warning("a connection's credentials cannot be renewed", metadata: ["error": "\(error)"])
            }
            let left = ContinuousClock.now.duration(to: expiry)
            guard left > .zero else { return connection.closedError == nil ? .expired : .over }
            let pause = min(max(left / 5, CredentialsLease.minimumPause), .seconds(60))
            guard await sleep(until: .now + pause) else { return .over }
        }
        return .over
    }

    private func sleep(until instant: ContinuousClock.Instant) async -> Bool {
        (try? await Task.sleep(until: instant, clock: .continuous)) != nil
    }
}
