import Metrics
import RPCWire

/// The metrics of a caller: see `docs/observability.md`.
final class CallerMetrics: Sendable {
    private let durations: MetricSeries
    private let inFlight: InFlightMeter
    private let retries: Counter
    private let lateReplies: Counter
    private let unknownReplies: Counter

    init(service: String, factory: any MetricsFactory) {
        durations = MetricSeries(.clientCallDuration, service: service, factory: factory)
        inFlight = InFlightMeter(.clientInFlight, service: service, factory: factory)
        retries = Counter(.clientRetries, service: service, factory: factory)
        let unmatched = MetricName.clientUnmatchedReplies
        lateReplies = Counter(unmatched, service: service, (.kind, "late"), factory: factory)
        unknownReplies = Counter(unmatched, service: service, (.kind, "unknown"), factory: factory)
    }

    func began() -> CompactInstant {
        inFlight.begin()
        return .now
    }

    func ended(_ destination: String, _ procedure: String?, since start: CompactInstant, error: RPCError?) {
        inFlight.end()
        let outcome = error?.kind ?? "ok"
        durations.record(
            start.duration(to: .now),
            MetricSeries.Key(destination: destination, procedure: procedure ?? "", outcome: outcome)
        )
    }

    func retried() { retries.increment() }

    /// A reply without a waiting call. With a valid id of ours it is late or repeated.
    func unmatchedReply(hasID: Bool) { (hasID ? lateReplies : unknownReplies).increment() }
}
