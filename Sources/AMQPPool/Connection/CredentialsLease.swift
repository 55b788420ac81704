internal import ConcurrencyPrimitives

/// From when and how long credentials are valid.
struct CredentialsLease: Sendable {
    private let begun = ContinuousClock.now
    private let lifetime: Duration

    /// From now; nil for those that do not expire.
    init?(_ credentials: Credentials) {
        guard let lifetime = credentials.validFor else { return nil }
        self.lifetime = lifetime.bounded
    }

    var expiry: ContinuousClock.Instant { begun + lifetime }
    /// When to ask for the next ones.
    var renewal: ContinuousClock.Instant { begun + max(lifetime / 5 * 4, Self.minimumPause) }

    /// The least time between two questions.
    static let minimumPause = Duration.seconds(1)
}
