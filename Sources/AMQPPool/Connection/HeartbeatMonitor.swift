/// Heartbeats in both directions (AMQP 0-9-1, section 4.2.7): one is due when nothing was written for half the interval, and the peer is
/// considered dead when nothing arrived for two intervals.
struct HeartbeatMonitor {
    typealias Instant = ContinuousClock.Instant

    enum Verdict: Equatable {
        case fine
        case sendHeartbeat
        case peerIsSilent
    }

    let interval: Duration
    private var lastRead: Instant
    private var lastWritten: Instant

    init(interval: Duration, now: Instant) {
        self.interval = interval
        lastRead = now
        lastWritten = now
    }

    /// Records that something arrived.
    mutating func read(at now: Instant) { lastRead = now }

    /// Records that something was written.
    mutating func wrote(at now: Instant) { lastWritten = now }

    func check(at now: Instant) -> Verdict {
        if now >= lastRead + interval * 2 { return .peerIsSilent }
        if now >= lastWritten + interval / 2 { return .sendHeartbeat }
        return .fine
    }

    /// The time of the next check.
    func nextCheck(after now: Instant) -> Instant {
        let sendDue = lastWritten + interval / 2
        let silenceDue = lastRead + interval * 2
        // A heartbeat that is due but cannot be written (the peer does not read) is checked again later, to avoid a busy loop.
        return min(sendDue > now ? sendDue : now + interval / 2, silenceDue)
    }
}
