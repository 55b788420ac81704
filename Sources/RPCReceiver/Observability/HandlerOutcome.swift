import RPCWire

/// How a handler ended.
enum HandlerOutcome: Sendable {
    /// With a result.
    case result(RPCReply)
    /// With a failure that is meant for the caller.
    case failed(RPCFailure)
    /// With an error that is not: it stays here.
    case crashed(any Error)

    /// What an error that a handler threw means.
    ///
    /// - Parameter passesUpstreamFailures: whether the failure of another service is handed on as it is.
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
    /// The outcome in one word, of which there are few: a service's own codes are all `failure`.
    var kind: String {
        switch self {
        case .result: "ok"
        case .failed(let failure): failure.code.isOfTheLibrary ? failure.code.rawValue : "failure"
        case .crashed: Task.isCancelled ? "cancelled" : RPCFailure.Code.internalError.rawValue
        }
    }
}
