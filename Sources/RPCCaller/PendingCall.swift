import AMQPPool
import NIOCore
import RPCWire
import Supervision
import Synchronization

/// A call, cast or wait for readiness, from its beginning until its task is resumed.
final class PendingCall: Sendable {
    /// How it ended.
    enum Ending: Sendable {
        case reply(ReplyMessage)
        /// A cast was confirmed, or a channel is ready.
        case done
        case failed(RPCError)
        /// The table ended with the call in it. If the call may be sent again, the next table may do so.
        case restarted(ExitReason, requestMayHaveBeenDelivered: Bool, retriesLeft: Int)
        /// The table had ended before it accepted the call: nothing was sent, and the next table may accept it.
        case notAccepted
    }

    let id: RequestID
    let request: OutgoingRequest
    let options: CallOptions
    /// The table that contains it until it has ended.
    private let table: CallTable
    private let mark = Atomic(WriteMark.first)
    private let continuation: PendingContinuation

    init(
        id: RequestID,
        request: OutgoingRequest,
        options: CallOptions,
        table: CallTable,
        continuation: PendingContinuation
    ) {
        self.id = id
        self.request = request
        self.options = options
        self.table = table
        self.continuation = continuation
    }

    var kind: CallKind { request.kind }
    var deadline: CompactInstant { request.deadline }

    // MARK: Writing

    /// Begins an attempt: only its message may be written from now on.
    func begin(attempt: Int) {
        // The first attempt begins with the call.
        if attempt > 1 { _ = change { $0.begin(UInt32(truncatingIfNeeded: attempt)) } }
    }

    /// Withdraws the message of the current attempt. `false`: it has been written, or the call has ended.
    func withdraw() -> Bool {
        change { $0.withdraw() }
    }

    /// Whether the message of the current attempt has been written.
    var isWritten: Bool { mark.load(ordering: .relaxed).isWritten }

    fileprivate func change(_ change: (inout WriteMark) -> Bool) -> Bool {
        var seen = mark.load(ordering: .relaxed)
        while true {
            var changed = seen
            guard change(&changed) else { return false }
            let (exchanged, original) = mark.compareExchange(
                expected: seen,
                desired: changed,
                ordering: .acquiringAndReleasing
            )
            if exchanged { return true }
            seen = original
        }
    }

    // MARK: End

    /// Resumes its task. Called by whoever removed the entry from the table, so at most once.
    func end(_ ending: Ending) {
        _ = end()
        continuation.resume(returning: ending)
    }

    /// Ends it with an error that depends on whether its request left this process, in this attempt or an earlier one.
    func fail(inDoubt: Bool, _ error: (_ requestMayHaveBeenDelivered: Bool) -> RPCError) {
        let wasWritten = end()
        continuation.resume(returning: .failed(error(wasWritten || inDoubt)))
    }

    /// Ends it because its table has ended: only a call or cast that has been written is in doubt.
    func end(restarted reason: ExitReason, inDoubt: Bool, retriesLeft: Int) {
        let wasWritten = end()
        let mayHaveBeenDelivered = wasWritten || inDoubt
        continuation.resume(
            returning: .restarted(
                reason,
                requestMayHaveBeenDelivered: mayHaveBeenDelivered,
                retriesLeft: retriesLeft
            )
        )
    }

    /// Prevents any further write. Returns whether the message of the current attempt has been written.
    private func end() -> Bool {
        var wasWritten = false
        _ = change { mark in
            wasWritten = mark.isWritten
            return mark.end()
        }
        return wasWritten
    }

    // MARK: Message

    /// The properties of its message at this moment.
    func properties(replyTo: String, remaining: Duration) -> MessageProperties {
        let id = id.description
        return RequestMessage.properties(
            // Servers of a plain queue need not know about services.
            destination: options.queue == nil ? request.destination : nil,
            procedure: request.procedure,
            correlationID: id,
            messageID: id,
            replyTo: kind.awaitsReply ? replyTo : nil,
            timeoutMilliseconds: kind.awaitsReply ? RequestMessage.milliseconds(remaining) : nil,
            contentType: request.contentType,
            headers: request.headers
        )
    }
}

extension PendingCall: PublishObserver {
    /// Called on the event loop right before the message of an attempt is encoded: whether it is still wanted. If so, it counts as written.
    func mayWrite(_ attempt: Int) -> Bool {
        change { $0.write(UInt32(truncatingIfNeeded: attempt)) }
    }

    func published(_ attempt: Int, _ outcome: PublishOutcome) {
        table.published(self, attempt, outcome)
    }
}

/// Which attempt of a call may be written, whether it has been, and whether the call has ended: in one atomic word, so that the thread that
/// ends a call and the event loop that writes it agree on the order.
///
/// ```
/// attempt n, unwritten ── write(n) ──▶ attempt n, written ── begin(n + 1) ──▶ attempt n + 1, unwritten
///        │ withdraw                            │
///        ▼                                     │ end
/// no attempt ──────────── end ──────────▶ ended ◀
/// ```
struct WriteMark: AtomicRepresentable, Equatable {
    private var attempt: UInt32
    private(set) var isWritten = false
    private(set) var hasEnded = false

    /// The first attempt, before it is written.
    static var first: WriteMark { WriteMark(attempt: 1) }

    mutating func begin(_ attempt: UInt32) -> Bool {
        guard !hasEnded else { return false }
        self.attempt = attempt
        isWritten = false
        return true
    }

    mutating func write(_ attempt: UInt32) -> Bool {
        guard !hasEnded, !isWritten, self.attempt == attempt else { return false }
        isWritten = true
        return true
    }

    mutating func withdraw() -> Bool {
        guard !hasEnded, !isWritten else { return false }
        attempt = 0
        return true
    }

    mutating func end() -> Bool {
        guard !hasEnded else { return false }
        hasEnded = true
        return true
    }

    // MARK: Atomic representation

    typealias AtomicRepresentation = UInt64.AtomicRepresentation

    static func encodeAtomicRepresentation(_ value: consuming WriteMark) -> UInt64.AtomicRepresentation {
        let bits = UInt64(value.attempt) << 2 | (value.isWritten ? 2 : 0) | (value.hasEnded ? 1 : 0)
        return UInt64.encodeAtomicRepresentation(bits)
    }

    static func decodeAtomicRepresentation(_ storage: consuming UInt64.AtomicRepresentation) -> WriteMark {
        let bits = UInt64.decodeAtomicRepresentation(storage)
        var mark = WriteMark(attempt: UInt32(truncatingIfNeeded: bits >> 2))
        mark.isWritten = bits & 2 != 0
        mark.hasEnded = bits & 1 != 0
        return mark
    }

    private init(attempt: UInt32) {
        self.attempt = attempt
    }
}

#if DEBUG
/// Checked in debug builds: finds a call that is resumed twice or never.
typealias PendingContinuation = CheckedContinuation<PendingCall.Ending, Never>
#else
/// Unchecked: an entry is in the table once, and each removal resumes it.
typealias PendingContinuation = UnsafeContinuation<PendingCall.Ending, Never>
#endif

extension RPCError {
    /// This error of the last attempt, unless it would say that nothing was processed although an earlier attempt may have been: then the
    /// error of that attempt.
    func after(_ doubt: PendingTable<PendingCall>.Doubt?) -> RPCError {
        guard let doubt, !requestMayHaveBeenProcessed else { return self }
        return switch doubt {
        case .connectionLost: .connectionLost(requestMayHaveBeenDelivered: true)
        case .repliesLost: .replyQueueLost
        }
    }
}
