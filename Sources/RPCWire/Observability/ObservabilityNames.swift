internal import AMQPPool

/// The names of the metrics of callers and receivers. A test compares them with `docs/observability.md`.
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

    /// The additional attributes of such a span about its message.
    static let ofMessage: [MessageSpanAttribute] = [
        .errorType, .system, .operationName, .operationType, .destinationName, .messageID, .bodySize,
    ]
}

/// The metadata keys of log lines of callers and receivers about a request.
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

/// Replaces a name from outside that is unknown here: otherwise peers could create any number of series and spans.
package let otherName = "_OTHER"
