package import AMQPPool

/// The metrics of callers and receivers. `docs/observability.md` lists them, and a test compares.
package enum MetricName: String, CaseIterable, Sendable {
    case clientCallDuration = "rpc.client.call.duration"
    case clientInFlight = "rpc.client.in_flight"
    case clientUnmatchedReplies = "rpc.client.replies.unmatched"
    case clientRetries = "rpc.client.retries"
    case serverCallDuration = "rpc.server.call.duration"
    case serverInFlight = "rpc.server.in_flight"
    case serverRedeliveries = "rpc.server.redeliveries"
    case serverRepetitions = "rpc.server.repetitions"
    case serverDropped = "rpc.server.dropped"
}

/// The dimensions of those metrics.
package enum MetricDimension: String, CaseIterable, Sendable {
    case service, destination, procedure, outcome, kind, reason
}

/// The attributes that only spans of requests have: OpenTelemetry's semantic conventions for RPC (release candidate).
package enum RPCSpanAttribute: String, CaseIterable, Sendable {
    case system = "rpc.system.name"
    case method = "rpc.method"
    case originalMethod = "rpc.method_original"
    case statusCode = "rpc.response.status_code"

    /// What such a span says of its message beside these.
    package static let ofMessage: [MessageSpanAttribute] = [
        .errorType, .system, .operationName, .operationType, .destinationName, .messageID, .bodySize,
    ]
}

/// The metadata keys of what callers and receivers log about a request.
package enum LogKey: String, CaseIterable, Sendable {
    case messageID = "rpc.message_id"
    case destination = "rpc.destination"
    case procedure = "rpc.procedure"
    case outcome = "rpc.outcome"
    case queue = "rpc.queue"
    case exchange = "rpc.exchange"
    case attempt = "rpc.attempt"
    case decision = "rpc.decision"
    case suppressed = "rpc.suppressed"
    case error
}

/// What stands for a name that came from outside and that nobody here knows: names of a stranger's choice would make series, and
/// spans, without bound.
package let otherName = "_OTHER"
