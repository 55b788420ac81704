public import RPCWire

/// The conversion of a call's error that a handler did not catch into the failure for its own caller.
///
/// The code says what happened to the call upstream, for example `upstream_timeout`, and the details whether its request may have been
/// processed. Texts are not passed on: they may contain internals of this service.
extension RPCError: RPCFailureConvertible {
    /// The failure that a handler throwing this error answers with.
    public var rpcFailure: RPCFailure {
        var details: [String: JSONValue] = [RPCFailure.mayHaveBeenProcessedKey: .bool(requestMayHaveBeenProcessed)]
        if case .remote(let failure) = self { details["code"] = .string(failure.code.rawValue) }
        return RPCFailure(code: upstreamCode, message: upstreamMessage, details: .object(details))
    }

    /// The failure that the other service answered with, if it answered.
    public var upstreamFailure: RPCFailure? {
        if case .remote(let failure) = self { failure } else { nil }
    }

    private var upstreamCode: RPCFailure.Code {
        switch self {
        case .unroutable, .noReceiver: .upstreamUnroutable
        case .timeout: .upstreamTimeout
        case .remote: .upstreamFailure
        case .cancelled, .callerRestarted: .upstreamCancelled
        case .connectionLost, .replyQueueLost, .notConnected, .blocked: .upstreamUnavailable
        case .overloaded, .rejectedByBroker: .upstreamOverloaded
        case .accessRefused, .invalidRequest, .unexpectedContentType, .undecodableReply: .upstreamMistake
        }
    }

    private var upstreamMessage: String {
        switch upstreamCode {
        case .upstreamUnroutable: "a service that this one calls does not exist"
        case .upstreamTimeout: "a service that this one calls did not answer in time"
        case .upstreamFailure: "a service that this one calls failed"
        case .upstreamCancelled: "a call to another service was given up"
        case .upstreamUnavailable: "a service that this one calls could not be reached, or its answer was lost"
        case .upstreamOverloaded: "too many calls to other services are under way"
        default: "a call to another service could not be made, or its answer could not be decoded"
        }
    }
}
