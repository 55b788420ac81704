import RPCWire
import Synchronization

/// What a caller has counted since it was made, over all incarnations of its tree.
public struct RPCCallerCounts: Sendable, Hashable {
    /// Replies that no waiting call is answered by: late, a second time, or never asked for. They are dropped.
    public var unmatchedReplies = 0
    /// Attempts that were made after the first one of a call, because of its ``RPCRetry``.
    public var retries = 0
}

/// Counts, for those who ask and for metrics.
final class CallerCounters: Sendable {
    /// `nil` where nobody wants to know.
    let metrics: CallerMetrics?
    /// For those who look.
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

    /// A call begins. `nil` when nobody wants to know how long it takes.
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

    /// - Parameter hasID: Whether it has an id as ours are, and so may have come late, or twice.
    func unmatchedReply(hasID: Bool) {
        unmatchedReplies.add(1, ordering: .relaxed)
        metrics?.unmatchedReply(hasID: hasID)
    }
}
