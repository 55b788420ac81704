import RPCWire
import Synchronization

/// The counts of a receiver since it was created, over all incarnations of its tree.
public struct RPCReceiverCounts: Sendable, Hashable {
    /// Delivered requests, including redeliveries.
    public var received = 0
    /// Requests that had been delivered before, to this receiver or another.
    public var redelivered = 0
    /// Requests whose handler returned a result.
    public var answered = 0
    /// Requests that ended with a failure.
    public var failed = 0
    /// Requests dropped because their caller's deadline had passed: their handlers were cancelled, or never started.
    public var expired = 0
    /// Those of them whose handlers never started.
    public var expiredUnstarted = 0
    /// Calls answered as overloaded, without being handled.
    public var shed = 0
    /// Requests that were not handled because another one with the same id was, before or at the same time.
    public var repeated = 0
    /// Requests whose handler exceeded the receiver's time limit.
    public var timedOut = 0
    /// Requests given up because they were delivered too often.
    public var poisoned = 0
    /// Calls given up because the broker accepts no reply to them: the user may not write to the default exchange, the broker closed a
    /// channel or connection because of the reply, or it is for a queue that ``RPCReceiverConfiguration/replyQueues`` does not allow.
    public var unanswerable = 0
    /// Requests rejected because they match none of the receiver's bindings: the exchange has another type than expected, or an old binding
    /// exists.
    public var misdirected = 0
    /// Requests with invalid headers, properties or size. A call is answered with an error.
    public var unreadable = 0
}

/// The counters behind ``RPCReceiverCounts`` and the metrics.
final class ReceiverCounters: Sendable {
    /// `nil` if no metrics are collected.
    let metrics: ReceiverMetrics?
    /// For inspection.
    let observation = CallObservation()
    private let counts = Mutex(RPCReceiverCounts())

    init(_ metrics: ReceiverMetrics? = nil) {
        self.metrics = metrics
    }

    var current: RPCReceiverCounts { counts.withLock { $0 } }

    /// A handler begins. Returns `nil` when nobody measures its duration.
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
