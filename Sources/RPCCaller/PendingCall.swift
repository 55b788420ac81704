import AMQPPool
import NIOCore
import RPCWire
import Synchronization

/// One call, cast or wait for readiness, from the moment it is made until its task is resumed.
final class PendingCall: Sendable {
    /// How it ended.
    enum Ending: Sendable {
        case reply(ReplyMessage)
        /// A confirmed cast, or readiness.
        case done
        case failed(RPCError)
        /// The table had ended before it took the call in: nothing was sent, and the next table may take it.
        case notTaken
    }

    let id: RequestID
    let kind: PendingTable<PendingCall>.Kind
    let request: RPCRequest
    private let hasEnded = Atomic(false)
    private let continuation: PendingContinuation

    init(
        id: RequestID,
        kind: PendingTable<PendingCall>.Kind,
        request: RPCRequest,
        continuation: PendingContinuation
    ) {
        self.id = id
        self.kind = kind
        self.request = request
        self.continuation = continuation
    }

    var destination: String { request.destination }
    var deadline: ContinuousClock.Instant { request.deadline }

    /// Whether its task still waits: what has not been written by now need not be.
    var isWanted: Bool { !hasEnded.load(ordering: .relaxed) }

    /// Resumes its task. Whoever took the entry out of the table calls this, and so nobody calls it twice.
    func end(_ ending: Ending) {
        hasEnded.store(true, ordering: .relaxed)
        continuation.resume(returning: ending)
    }

    /// The message as it goes out now.
    func message(replyTo: String, remaining: Duration) -> RequestMessage {
        RequestMessage(
            id: id,
            destination: request.destination,
            procedure: request.procedure,
            replyTo: kind == .call ? replyTo : nil,
            remaining: kind == .call ? remaining : nil,
            contentType: request.contentType,
            headers: request.headers,
            body: request.body
        )
    }
}

#if DEBUG
/// Checked where tests run: a call that is resumed twice or never is found there.
typealias PendingContinuation = CheckedContinuation<PendingCall.Ending, Never>
#else
/// Unchecked: an entry is in the table once, and each way out of the table resumes it.
typealias PendingContinuation = UnsafeContinuation<PendingCall.Ending, Never>
#endif
