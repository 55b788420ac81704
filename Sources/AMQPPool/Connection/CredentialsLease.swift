internal import ConcurrencyPrimitives

/// When credentials became valid, and how long they are.
struct CredentialsLease: Sendable {
    private let begun = ContinuousClock.now
    private let lifetime: Duration

    /// A lease that begins now; `nil` for credentials that do not expire.
    init?(_ credentials: Credentials) {
        guard let lifetime = credentials.validFor else { return nil }
        self.lifetime = lifetime.bounded
    }

    var expiry: ContinuousClock.Instant { begun + lifetime }
    /// When to renew the credentials.
    var renewal: ContinuousClock.Instant { begun + max(lifetime / 5 * 4, Self.minimumPause) }

    /// The minimum time between two renewals.
    static let minimumPause = Duration.seconds(1)
}
