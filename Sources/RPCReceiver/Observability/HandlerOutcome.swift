import RPCWire

/// How a handler ended.
enum HandlerOutcome: Sendable {
    /// With a result.
    case result(RPCReply)
    /// With a failure for the caller.
    case failed(RPCFailure)
    /// With any other error, which stays here.
    case crashed(any Error)

    /// Classifies an error that a handler threw.
    ///
    /// - Parameter passesUpstreamFailures: Whether the failure of another service is passed on unchanged.
    init(_ error: any Error, passesUpstreamFailures: Bool = false) {
        switch error {
        case let failure as RPCFailure: self = .failed(failure)
        case let error as any RPCFailureConvertible:
            let upstream = passesUpstreamFailures ? error.upstreamFailure : nil
            self = .failed(upstream ?? error.rpcFailure)
        default: self = .crashed(error)
        }
    }
}

extension HandlerOutcome {
    /// The outcome as one of a fixed set of values: a service's own codes are all `failure`.
    var kind: String {
        switch self {
        case .result: "ok"
        case .failed(let failure): failure.code.isOfTheLibrary ? failure.code.rawValue : "failure"
        case .crashed: Task.isCancelled ? "cancelled" : RPCFailure.Code.internalError.rawValue
        }
    }
}
