import Synchronization

/// What a caller has counted since it was made, over all incarnations of its tree.
public struct RPCCallerCounts: Sendable, Hashable {
    /// Replies that no waiting call is answered by: late, a second time, or never asked for. They are dropped.
    public var unmatchedReplies = 0
}

/// Counts; metrics will be fed from here.
final class CallerCounters: Sendable {
    private let unmatchedReplies = Atomic(0)

    var current: RPCCallerCounts {
        RPCCallerCounts(unmatchedReplies: unmatchedReplies.load(ordering: .relaxed))
    }

    func unmatchedReply() {
        unmatchedReplies.add(1, ordering: .relaxed)
    }
}
