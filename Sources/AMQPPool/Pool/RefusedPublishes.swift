internal import ConcurrencyPrimitives

/// Decides which messages of a pool are published on the shared channels, and which on a separate channel first.
///
/// The broker closes a channel because of a message to an exchange that does not exist, and other messages on that channel are in doubt.
/// The first message to each exchange is therefore published on a separate channel, and so are messages like one that was refused: one at a
/// time, with a growing delay, until the broker accepts one. It uses no clock or I/O.
struct RefusedPublishes {
    typealias Ground = PublishRefusal.Ground
    typealias Instant = ContinuousClock.Instant

    /// How the next message of a kind has to be published.
    enum Admission {
        /// On a shared channel.
        case shared
        /// As a trial, on a separate channel, not before this instant. Its outcome is passed to ``tried(_:_:at:)``.
        case alone(Ground, notBefore: Instant, refusal: AMQPError?)
        /// After the trial that is in progress, whose outcome is passed to this.
        case wait(OneShot<Trial>, refusal: AMQPError?)
    }

    /// The outcome of a trial.
    enum Trial: Sendable {
        /// The broker accepts messages like this.
        case accepted
        /// It is still refused.
        case refused(AMQPError)
        /// Unknown: it was not sent, or the connection was lost.
        case unknown
    }

    private struct Entry {
        var failures = 0
        var lastRefusal: AMQPError?
        var notBefore: Instant
        /// Completed when the trial in progress has ended; `nil` if there is none.
        var trial: OneShot<Trial>?
        var lastUse: Instant

        mutating func refused(_ error: AMQPError, at now: Instant) {
            failures = min(failures + 1, 1000)
            lastRefusal = error
            let pause = RefusedPublishes.shortestPause * (1 << min(failures - 1, 10))
            notBefore = now + min(pause, RefusedPublishes.longestPause)
        }
    }

    /// The maximum number of entries; older knowledge is dropped, and learned again.
    static let maximumEntries = 1024
    static let maximumExchanges = 4096
    private static let shortestPause = Duration.milliseconds(20)
    private static let longestPause = Duration.seconds(1)

    private var entries: [Ground: Entry] = [:]
    /// Exchanges that have accepted a message.
    private var exchanges: Set<String> = []
    /// The largest body that the broker accepts, once it has refused a larger one.
    private var sizeLimit: Int?

    /// The number of known grounds.
    var count: Int { entries.count }

    /// Whether messages to the default exchange need no check.
    var isEmpty: Bool { entries.isEmpty }

    /// Decides how to publish a message.
    mutating func admit(
        exchange: String,
        routingKey: String,
        userID: String?,
        size: Int,
        at now: Instant
    ) -> Admission {
        if let ground = known(exchange, routingKey, userID, size) { return admit(ground, at: now) }
        if exchange.isEmpty || exchanges.contains(exchange) { return .shared }
        return admit(.exchange(exchange), at: now)
    }

    /// Whether ``admit(exchange:routingKey:userID:size:at:)`` would return ``Admission/shared``.
    func shares(exchange: String, routingKey: String, userID: String?, size: Int) -> Bool {
        known(exchange, routingKey, userID, size) == nil && (exchange.isEmpty || exchanges.contains(exchange))
    }

    private func known(_ exchange: String, _ routingKey: String, _ userID: String?, _ size: Int) -> Ground? {
        guard !entries.isEmpty else { return nil }
        if let sizeLimit, size > sizeLimit, entries[.size(limit: sizeLimit)] != nil { return .size(limit: sizeLimit) }
        var grounds: [Ground] = [
            .exchange(exchange), .topic(exchange: exchange, routingKey: routingKey),
            .message(exchange: exchange, routingKey: routingKey, userID: userID),
        ]
        if let userID { grounds.append(.user(userID)) }
        return grounds.first { entries[$0] != nil }
    }

    private mutating func admit(_ ground: Ground, at now: Instant) -> Admission {
        makeRoom()
        var entry = entries[ground] ?? Entry(notBefore: now, lastUse: now)
        entry.lastUse = now
        defer { entries[ground] = entry }
        if let trial = entry.trial { return .wait(trial, refusal: entry.lastRefusal) }
        entry.trial = OneShot()
        return .alone(ground, notBefore: max(now, entry.notBefore), refusal: entry.lastRefusal)
    }

    /// The trial of a message has ended.
    mutating func tried(_ ground: Ground, _ trial: Trial, at now: Instant) {
        guard var entry = entries[ground] else { return }
        let ended = entry.trial
        entry.trial = nil
        switch trial {
        case .accepted:
            entries[ground] = nil
            if case .exchange(let name) = ground { prove(name) }
        case .refused(let error):
            entry.refused(error, at: now)
            entries[ground] = entry
        case .unknown:
            entries[ground] = entry.failures > 0 ? entry : nil
        }
        ended?.set(trial)
    }

    /// A message on a shared channel was refused.
    mutating func refused(_ ground: Ground, _ error: AMQPError, at now: Instant) {
        guard ground != .unknown else { return }
        makeRoom()
        switch ground {
        case .exchange(let name): exchanges.remove(name)
        case .size(let limit): sizeLimit = limit
        case .topic, .user, .message, .unknown: break
        }
        var entry = entries[ground] ?? Entry(notBefore: now, lastUse: now)
        entry.refused(error, at: now)
        entries[ground] = entry
    }

    private mutating func prove(_ exchange: String) {
        if exchanges.count >= Self.maximumExchanges { exchanges.removeAll() }
        exchanges.insert(exchange)
    }

    private mutating func makeRoom() {
        guard entries.count >= Self.maximumEntries else { return }
        let idle = entries.filter { $0.value.trial == nil }.min { $0.value.lastUse < $1.value.lastUse }
        if let idle { entries[idle.key] = nil }
    }
}
