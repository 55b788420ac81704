internal import Supervision

/// What the failures of one connection's attempts to connect mean. Pure: whoever tries has the clock, the log and the network.
struct ConnectAttempts {
    enum Action: Equatable {
        /// Those who watch are told; nil: there will be no other attempt.
        case report(AMQPError, retryIn: Duration?)
        /// The next attempt, at the endpoint whose turn it is, after this time.
        case retry(after: Duration)
        /// No waiting repairs it: the pool ends, and whoever has the pool decides what follows.
        case endPool(AMQPError)
    }

    private let backoff: Backoff
    private let bootPolicy: BootPolicy
    private var failures = 0

    init(backoff: Backoff, bootPolicy: BootPolicy) {
        self.backoff = backoff
        self.bootPolicy = bootPolicy
    }

    /// An attempt has failed.
    ///
    /// - Parameters:
    ///   - hasFailedEverywhere: Whether each endpoint of the pool was tried in vain, and none ever worked.
    ///   - random: From 0 up to 1, for the backoff's jitter.
    mutating func failed(_ error: AMQPError, hasFailedEverywhere: Bool, random: Double) -> [Action] {
        if isForGood(error, hasFailedEverywhere) { return [.report(error, retryIn: nil), .endPool(error)] }
        failures += 1
        let delay = backoff.delay(afterFailures: failures, random: random)
        return [.report(error, retryIn: delay), .retry(after: delay)]
    }

    private func isForGood(_ error: AMQPError, _ hasFailedEverywhere: Bool) -> Bool {
        if error.isLackOfChannels { return true }
        return switch bootPolicy {
        case .keepTrying: false
        case .failWhenRefused: error.isRefusal && hasFailedEverywhere
        }
    }
}

extension AMQPError {
    /// Whether a connection may have fewer channels than the pool needs.
    fileprivate var isLackOfChannels: Bool {
        if case .tooFewChannels = self { true } else { false }
    }
}
