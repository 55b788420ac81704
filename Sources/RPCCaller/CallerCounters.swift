import Synchronization

/// What a caller has counted since it was made, over all incarnations of its tree.
public struct RPCCallerCounts: Sendable, Hashable {
    /// Replies that no waiting call is answered by: late, a second time, or never asked for. They are dropped.
    public var unmatchedReplies = 0
    /// Attempts that were made after the first one of a call, because of its ``RPCRetry``.
    public var retries = 0
}

/// Counts; metrics will be fed from here.
final class CallerCounters: Sendable {
    private let unmatchedReplies = Atomic(0)
    private let retries = Atomic(0)

    var current: RPCCallerCounts {
        RPCCallerCounts(
            unmatchedReplies: unmatchedReplies.load(ordering: .relaxed),
            retries: retries.load(ordering: .relaxed)
        )
    }

    func retried() {
        retries.add(1, ordering: .relaxed)
    }

    func unmatchedReply() {
        unmatchedReplies.add(1, ordering: .relaxed)
    }
}
