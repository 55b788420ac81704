import AMQPPool
public import RPCWire
public import Supervision

/// How a call ended, when it did not end with a result.
///
/// Each case says what happened, whether the request may have been processed, and whether sending it again is safe. "May have
/// been processed" is never more than the truth known here: the receiver may have run the procedure, run a part of it, or still be
/// running it.
public enum RPCError: Error, Sendable, Equatable {
    /// No queue takes requests for this destination: the service does not exist, or never ran.
    ///
    /// Known within milliseconds, since the broker returns the message. Not processed; sending again is safe.
    case unroutable(destination: String)

    /// The destination's queue exists, and nobody consumed it when the call was made: see
    /// ``RPCCallerConfiguration/whenNobodyServes``.
    ///
    /// Not sent; sending again later is safe.
    case noReceiver(destination: String)

    /// The broker refuses this caller's user what the call needs: mostly the right to write to the exchange. With the broker's words.
    ///
    /// Not processed. Sending the same again fails in the same way, until the right is granted.
    case accessRefused(String)

    /// The deadline passed while the caller waited for the reply.
    ///
    /// With `true` the request left this process, and may have been processed or may still be: safe to send again only when the
    /// procedure is idempotent. With `false` it never left.
    case timeout(requestMayHaveBeenDelivered: Bool)

    /// The task that made the call was cancelled.
    ///
    /// With `true` the request left this process and may have been processed: it is not called back once it is on its way. With
    /// `false` it never left.
    case cancelled(requestMayHaveBeenDelivered: Bool)

    /// The receiver answered with a failure. `RPCFailure.code` tells whether anything ran.
    case remote(RPCFailure)

    /// The connection that carried the request was lost before the broker confirmed it.
    ///
    /// With `true` the request left this process and may have been processed. With `false` no byte of it left.
    case connectionLost(requestMayHaveBeenDelivered: Bool)

    /// The queue that the reply would come to is gone, so the reply cannot come. With ``RPCReplies/direct`` so is what would have
    /// come on a channel that is closed.
    ///
    /// May have been processed.
    case replyQueueLost

    /// The caller was stopped or restarted while the call waited, for this reason.
    ///
    /// With `true` the request left this process and may have been processed. With `false` it never left.
    case callerRestarted(ExitReason, requestMayHaveBeenDelivered: Bool)

    /// As many calls as are allowed at once are waiting already, and still were at the deadline if calls wait for a place.
    ///
    /// Not sent; sending again later is safe.
    case overloaded(limit: Int)

    /// The broker accepted nothing (a memory or disk alarm) until the deadline passed.
    ///
    /// Not sent; sending again later is safe.
    case blocked(why: String)

    /// No channel was ready until the deadline passed. `why` is what the last attempts to connect said.
    ///
    /// Not sent; sending again later is safe.
    case notConnected(why: String)

    /// The broker refused to keep the request: a full queue that rejects, or an error of its own.
    ///
    /// Not processed, as far as the broker says; sending again later is safe if the procedure is idempotent.
    case rejectedByBroker

    /// The request is not one: an argument that cannot be encoded, a name that is too long, a body over the limit.
    ///
    /// Not sent. Sending the same again fails in the same way.
    case invalidRequest(String)

    /// A result came, written in another content type than the call expects.
    ///
    /// Processed: the receiver answered with a result.
    case unexpectedContentType(String, expected: String)

    /// A reply came and is not what the call expects.
    ///
    /// Processed: the receiver answered with a result.
    case undecodableReply(String)
}

extension RPCError {
    /// Whether the receiver may have run the procedure, wholly or in part. When it is `false`, sending again is safe.
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
    /// One sentence: what happened.
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
        case .replyQueueLost: "the reply queue is gone, so the reply cannot come"
        case .callerRestarted(let reason, true): "the caller was stopped or restarted: \(reason)"
        case .callerRestarted(let reason, false):
            "the caller was stopped or restarted before the request was sent: \(reason)"
        case .overloaded(let limit): "\(limit) calls are waiting already"
        case .blocked(let why): "the broker accepts no messages: \(why)"
        case .notConnected(let why): "not connected: \(why)"
        case .rejectedByBroker: "the broker refused to keep the request"
        case .invalidRequest(let why): "the request is invalid: \(why)"
        case .unexpectedContentType(let type, let expected):
            "the result's content type is \"\(type)\" instead of \"\(expected)\""
        case .undecodableReply(let why): "the reply cannot be decoded: \(why)"
        }
    }
}
