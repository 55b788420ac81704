import Metrics
import RPCWire

/// The metrics of a receiver: see `docs/observability.md`.
final class ReceiverMetrics: Sendable {
    private let durations: MetricSeries
    private let inFlight: InFlightMeter
    private let redeliveries: Counter
    private let repetitions: Counter
    private let expired: Counter
    private let poisoned: Counter
    private let shed: Counter
    private let unanswerable: Counter
    private let misdirected: Counter

    init(service: String, factory: any MetricsFactory) {
        durations = MetricSeries(.serverCallDuration, service: service, factory: factory)
        inFlight = InFlightMeter(.serverInFlight, service: service, factory: factory)
        redeliveries = Counter(.serverRedeliveries, service: service, factory: factory)
        repetitions = Counter(.serverRepetitions, service: service, factory: factory)
        let dropped = { reason in Counter(.serverDropped, service: service, (.reason, reason), factory: factory) }
        expired = dropped("expired")
        poisoned = dropped("poison")
        shed = dropped("overloaded")
        unanswerable = dropped("unanswerable")
        misdirected = dropped("misdirected")
    }

    func began() -> CompactInstant {
        inFlight.begin()
        return .now
    }

    /// - Parameter procedure: `nil` for one that the receiver does not have.
    func ended(_ procedure: String?, since start: CompactInstant, _ outcome: HandlerOutcome) {
        inFlight.end()
        durations.record(
            start.duration(to: .now),
            MetricSeries.Key(procedure: procedure ?? otherName, outcome: outcome.kind)
        )
    }

    func redelivered() { redeliveries.increment() }
    func repeated() { repetitions.increment() }
    func dropExpired() { expired.increment() }
    func dropPoisoned() { poisoned.increment() }
    func dropShed() { shed.increment() }
    func dropMisdirected() { misdirected.increment() }
    func dropUnanswerable() { unanswerable.increment() }
}
