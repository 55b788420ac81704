extension RPCError {
    /// The error as one of a fixed set of values, for metrics, spans and logs.
    var kind: String {
        switch self {
        case .unroutable: "unroutable"
        case .noReceiver: "no_receiver"
        case .accessRefused: "access_refused"
        case .timeout: "timeout"
        case .cancelled: "cancelled"
        case .remote: "remote"
        case .connectionLost: "connection_lost"
        case .replyQueueLost: "reply_queue_lost"
        case .callerRestarted: "caller_restarted"
        case .overloaded: "overloaded"
        case .blocked: "blocked"
        case .notConnected: "not_connected"
        case .rejectedByBroker: "rejected_by_broker"
        case .invalidRequest: "invalid_request"
        case .unexpectedContentType: "unexpected_content_type"
        case .undecodableReply: "undecodable_reply"
        }
    }
}
