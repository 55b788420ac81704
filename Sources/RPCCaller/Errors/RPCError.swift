import AMQPPool
public import RPCWire
public import Supervision

/// How a call ended without a result.
///
/// Each case says what happened, whether the request may have been processed, and whether sending it again is safe. "May have been
/// processed" means that the receiver may have run the procedure, have run a part of it, or still be running it.
public enum RPCError: Error, Sendable, Equatable {
    /// No queue accepts requests for this destination: the service does not exist, or has never run.
    ///
    /// Known within milliseconds, because the broker returns the message. Not processed; sending again is safe.
    case unroutable(destination: String)

    /// The destination's queue exists, but had no consumer when the call was made: see ``RPCCallerConfiguration/whenNobodyServes``.
    ///
    /// Not sent; sending again later is safe.
    case noReceiver(destination: String)

    /// The broker denies this caller's user a permission that the call needs, usually to write to the exchange. Contains the broker's text.
    ///
    /// Not processed. Sending the same request again fails in the same way until the permission is granted.
    case accessRefused(String)

    /// The deadline passed while the caller waited for the reply.
    ///
    /// If `true`, the request left this process, and may have been processed or still be in progress: sending again is safe only if the
    /// procedure is idempotent. If `false`, it never left.
    case timeout(requestMayHaveBeenDelivered: Bool)

    /// The calling task was cancelled.
    ///
    /// If `true`, the request left this process and may have been processed: it is not recalled once it has been sent. If `false`, it never
    /// left.
    case cancelled(requestMayHaveBeenDelivered: Bool)

    /// The receiver answered with a failure. `RPCFailure.code` says whether anything ran.
    case remote(RPCFailure)

    /// The connection that carried the request was lost before the broker confirmed it.
    ///
    /// If `true`, the request left this process and may have been processed. If `false`, nothing of it left.
    case connectionLost(requestMayHaveBeenDelivered: Bool)

    /// The queue for the reply was lost, so the reply cannot arrive. With ``RPCReplies/direct`` the same holds for replies on a closed
    /// channel.
    ///
    /// May have been processed.
    case replyQueueLost

    /// The caller was stopped or restarted for this reason while the call waited.
    ///
    /// If `true`, the request left this process and may have been processed. If `false`, it never left.
    case callerRestarted(ExitReason, requestMayHaveBeenDelivered: Bool)

    /// The limit of concurrent calls is reached; if calls wait for a slot, it was until the deadline.
    ///
    /// Not sent; sending again later is safe.
    case overloaded(limit: Int)

    /// The broker accepted no messages (a memory or disk alarm) until the deadline passed.
    ///
    /// Not sent; sending again later is safe.
    case blocked(why: String)

    /// No channel was ready until the deadline passed. `why` has the errors of the last attempts to connect.
    ///
    /// Not sent; sending again later is safe.
    case notConnected(why: String)

    /// The broker refused to store the request: a full queue that rejects, or an internal error.
    ///
    /// Not processed, according to the broker; sending again later is safe if the procedure is idempotent.
    case rejectedByBroker

    /// The request is invalid: an argument that cannot be encoded, a name that is too long, a body over the limit.
    ///
    /// Not sent. Sending the same request again fails in the same way.
    case invalidRequest(String)

    /// A result arrived, in another content type than the call expects.
    ///
    /// Processed: the receiver answered with a result.
    case unexpectedContentType(String, expected: String)

    /// A reply arrived that cannot be decoded as the expected result.
    ///
    /// Processed: the receiver answered with a result.
    case undecodableReply(String)
}

extension RPCError {
    /// Whether the receiver may have run the procedure, completely or partially. If `false`, sending again is safe.
    public var requestMayHaveBeenProcessed: Bool {
        switch self {
        case .unroutable, .noReceiver, .accessRefused, .overloaded, .blocked, .notConnected, .invalidRequest,
            .rejectedByBroker:
            false
        case .replyQueueLost, .unexpectedContentType, .undecodableReply: true
        case .timeout(let mayHaveBeenDelivered), .cancelled(let mayHaveBeenDelivered),
            .connectionLost(let mayHaveBeenDelivered), .callerRestarted(_, let mayHaveBeenDelivered):
            mayHaveBeenDelivered
        case .remote(let failure): failure.requestMayHaveBeenProcessed
        }
    }
}

extension RPCError: CustomStringConvertible {
    /// The error as a sentence.
    public var description: String {
        switch self {
        case .unroutable(let destination): "no service \"\(destination)\": nothing is bound to receive its requests"
        case .noReceiver(let destination): "nobody serves \"\(destination)\" at present: its queue has no consumer"
        case .accessRefused(let why): "the broker refuses the request: \(why)"
        case .timeout(true): "no reply before the deadline"
        case .timeout(false): "the deadline passed before the request was sent"
        case .cancelled(true): "the calling task was cancelled"
        case .cancelled(false): "the calling task was cancelled before the request was sent"
        case .remote(let failure): "the receiver answered with a failure: \(failure)"
        case .connectionLost(true): "the connection was lost after the request was sent; it may have been delivered"
        case .connectionLost(false): "the connection was lost before the request was sent"
        case .replyQueueLost: "the reply queue was lost, so the reply cannot arrive"
        case .callerRestarted(let reason, true): "the caller was stopped or restarted: \(reason)"
        case .callerRestarted(let reason, false):
            "the caller was stopped or restarted before the request was sent: \(reason)"
        case .overloaded(let limit): "\(limit) calls are waiting already"
        case .blocked(let why): "the broker accepts no messages: \(why)"
        case .notConnected(let why): "not connected: \(why)"
        case .rejectedByBroker: "the broker refused to store the request"
        case .invalidRequest(let why): "the request is invalid: \(why)"
        case .unexpectedContentType(let type, let expected):
            "the result's content type is \"\(type)\" instead of \"\(expected)\""
        case .undecodableReply(let why): "the reply cannot be decoded: \(why)"
        }
    }
}
