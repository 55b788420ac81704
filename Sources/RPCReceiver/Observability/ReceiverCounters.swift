import RPCWire
import Synchronization

/// What a receiver has done since it was made, over all incarnations of its tree.
public struct RPCReceiverCounts: Sendable, Hashable {
    /// Requests delivered, redeliveries included.
    public var received = 0
    /// Requests that were delivered before, to this receiver or another.
    public var redelivered = 0
    /// Requests whose handler returned a result.
    public var answered = 0
    /// Requests that ended with a failure.
    public var failed = 0
    /// Requests dropped because their caller's deadline had passed: their handlers were cancelled, or never began.
    public var expired = 0
    /// Those of them whose handlers never began.
    public var expiredUnstarted = 0
    /// Calls answered as overloaded, without being worked on.
    public var shed = 0
    /// Requests that were not worked on because another one of the same id was, before or at the time.
    public var repeated = 0
    /// Requests whose handler took longer than the receiver allows.
    public var timedOut = 0
    /// Requests given up because they were delivered too often.
    public var poisoned = 0
    /// Calls given up because the broker takes no reply to them: the user may not write to the default exchange, or the broker closed
    /// a channel or a connection for the reply, or it is for a queue that ``RPCReceiverConfiguration/replyQueues`` does not allow.
    public var unanswerable = 0
    /// Requests rejected because none of the receiver's bindings is for them: the exchange is of another type than it should be, or a
    /// binding was left behind.
    public var misdirected = 0
    /// Requests whose headers, properties or size cannot be read or are not what they should be. A call is answered with an error.
    public var unreadable = 0
}

/// Counts, for those who ask and for metrics.
final class ReceiverCounters: Sendable {
    /// `nil` where nobody wants to know.
    let metrics: ReceiverMetrics?
    /// For those who look.
    let observation = CallObservation()
    private let counts = Mutex(RPCReceiverCounts())

    init(_ metrics: ReceiverMetrics? = nil) {
        self.metrics = metrics
    }

    var current: RPCReceiverCounts { counts.withLock { $0 } }

    /// A handler begins. `nil` when nobody wants to know how long it takes.
    func began() -> CompactInstant? {
        if let metrics { return metrics.began() }
        return observation.isWatched ? .now : nil
    }

    /// - Parameter procedure: `nil` for one that the receiver does not have.
    func ended(_ procedure: String?, since start: CompactInstant, _ outcome: HandlerOutcome) {
        metrics?.ended(procedure, since: start, outcome)
        guard observation.isWatched else { return }
        observation.record(procedure: procedure ?? otherName, outcome: outcome.kind, since: start)
    }

    func received() { counts.withLock { $0.received += 1 } }
    func redelivered() {
        counts.withLock { $0.redelivered += 1 }
        metrics?.redelivered()
    }
    func answered() { counts.withLock { $0.answered += 1 } }
    func failed() { counts.withLock { $0.failed += 1 } }
    func expired(hadBegun: Bool) {
        counts.withLock { counts in
            counts.expired += 1
            if !hadBegun { counts.expiredUnstarted += 1 }
        }
        metrics?.dropExpired()
    }
    func shed() {
        counts.withLock { $0.shed += 1 }
        metrics?.dropShed()
    }
    func repeated() {
        counts.withLock { $0.repeated += 1 }
        metrics?.repeated()
    }
    func timedOut() { counts.withLock { $0.timedOut += 1 } }
    func poisoned() {
        counts.withLock { $0.poisoned += 1 }
        metrics?.dropPoisoned()
    }
    func unreadable() { counts.withLock { $0.unreadable += 1 } }
    func misdirected() {
        counts.withLock { $0.misdirected += 1 }
        metrics?.dropMisdirected()
    }
    func unanswerable() {
        counts.withLock { $0.unanswerable += 1 }
        metrics?.dropUnanswerable()
    }
}
