import RPCWire
import Synchronization

/// The counts of a caller since it was created, over all incarnations of its tree.
public struct RPCCallerCounts: Sendable, Hashable {
    /// Replies without a waiting call: late, repeated, or never requested. They are dropped.
    public var unmatchedReplies = 0
    /// Retries of calls because of their ``RPCRetry``.
    public var retries = 0
}

/// The counters behind ``RPCCallerCounts`` and the metrics.
final class CallerCounters: Sendable {
    /// `nil` if no metrics are collected.
    let metrics: CallerMetrics?
    /// For inspection.
    let observation = CallObservation()
    private let unmatchedReplies = Atomic(0)
    private let retries = Atomic(0)

    init(_ metrics: CallerMetrics? = nil) {
        self.metrics = metrics
    }

    var current: RPCCallerCounts {
        RPCCallerCounts(
            unmatchedReplies: unmatchedReplies.load(ordering: .relaxed),
            retries: retries.load(ordering: .relaxed)
        )
    }

    /// A call begins. Returns `nil` when nobody measures its duration.
    func began() -> CompactInstant? {
        if let metrics { return metrics.began() }
        return observation.isWatched ? .now : nil
    }

    func ended(_ destination: String, _ procedure: String?, since start: CompactInstant, error: RPCError?) {
        metrics?.ended(destination, procedure, since: start, error: error)
        guard observation.isWatched else { return }
        observation.record(
            destination: destination,
            procedure: procedure ?? "",
            outcome: error?.kind ?? "ok",
            since: start
        )
    }

    func retried() {
        retries.add(1, ordering: .relaxed)
        metrics?.retried()
    }

    /// - Parameter hasID: Whether it has a valid id of ours, and so may be late or repeated.
    func unmatchedReply(hasID: Bool) {
        unmatchedReplies.add(1, ordering: .relaxed)
        metrics?.unmatchedReply(hasID: hasID)
    }
}
