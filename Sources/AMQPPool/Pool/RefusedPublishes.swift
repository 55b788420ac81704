internal import ConcurrencyPrimitives

/// Which messages of a pool go on the channels that all share, and which are tried alone first.
///
/// The broker closes a channel for a message to an exchange that does not exist, and what others have published on it is in doubt. So
/// the first message to each exchange goes on a channel of its own, and so does what was refused once: one at a time, with a growing
/// pause, until the broker takes it. Decided without a clock or a network.
struct RefusedPublishes {
    typealias Ground = PublishRefusal.Ground
    typealias Instant = ContinuousClock.Instant

    /// What the next message on these grounds has to do.
    enum Admission {
        /// It goes on a channel that others use too.
        case shared
        /// It is the one that is tried, alone, not before this moment. Whatever comes of it is told to ``tried(_:_:at:)``.
        case alone(Ground, notBefore: Instant, refusal: AMQPError?)
        /// One is being tried; what becomes of that is told to this.
        case wait(OneShot<Trial>, refusal: AMQPError?)
    }

    /// What became of a message that was tried alone.
    enum Trial: Sendable {
        /// The broker works on messages like this.
        case accepted
        /// It is refused still.
        case refused(AMQPError)
        /// Nobody knows: it was not sent, or the connection was lost.
        case unknown
    }

    private struct Entry {
        var failures = 0
        var lastRefusal: AMQPError?
        var notBefore: Instant
        /// Told when the trial that goes on has ended; nil when none does.
        var trial: OneShot<Trial>?
        var lastUse: Instant

        mutating func refused(_ error: AMQPError, at now: Instant) {
            failures = min(failures + 1, 1000)
            lastRefusal = error
            let pause = RefusedPublishes.shortestPause * (1 << min(failures - 1, 10))
            notBefore = now + min(pause, RefusedPublishes.longestPause)
        }
    }

    /// What is known of more than this is forgotten, and learned again.
    static let maximumEntries = 1024
    static let maximumExchanges = 4096
    private static let shortestPause = Duration.milliseconds(20)
    private static let longestPause = Duration.seconds(1)

    private var entries: [Ground: Entry] = [:]
    /// Exchanges that have taken a message.
    private var exchanges: Set<String> = []
    /// The largest body that the broker takes, since it has refused a larger one.
    private var sizeLimit: Int?

    /// How many grounds are known.
    var count: Int { entries.count }

    /// Whether messages to the default exchange need not be looked at.
    var isEmpty: Bool { entries.isEmpty }

    /// Decides about a message.
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

    /// Whether ``admit(exchange:routingKey:userID:size:at:)`` would say ``Admission/shared``.
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

    /// The message that was tried alone has had its turn.
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

    /// A message on a channel that others use too was refused.
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
