internal import ConcurrencyPrimitives
package import Metrics
import Synchronization

/// The metrics of a consumer or worker, by OpenTelemetry's conventions for messaging. `docs/observability.md` lists them.
package final class ConsumerMetrics: Sendable {
    private let consumed: Counter
    private let inFlight: Meter
    private let zombies: Meter
    private let prefetch: Meter
    private let running = Atomic(0)
    private let queue: String
    private let factory: any MetricsFactory
    private let durations = Mutex<[String: Timer]>([:])

    /// Returns `nil` if no metrics are collected.
    package init?(queue: String, factory: (any MetricsFactory)? = nil) {
        guard let factory = MetricsSystem.activeFactory(factory) else { return nil }
        self.factory = factory
        self.queue = queue
        let dimensions = Self.dimensions(queue)
        consumed = Counter(label: AMQPMetricName.consumed.rawValue, dimensions: dimensions, factory: factory)
        inFlight = Meter(label: AMQPMetricName.processInFlight.rawValue, dimensions: dimensions, factory: factory)
        zombies = Meter(label: AMQPMetricName.processZombies.rawValue, dimensions: dimensions, factory: factory)
        prefetch = Meter(label: AMQPMetricName.prefetch.rawValue, dimensions: dimensions, factory: factory)
    }

    private static func dimensions(_ queue: String) -> [(String, String)] {
        [(AMQPMetricDimension.system.rawValue, "rabbitmq"), (AMQPMetricDimension.destination.rawValue, queue)]
    }

    /// Records that this many messages begin to be handled.
    package func began(_ count: Int) {
        consumed.increment(by: count)
        inFlight.set(running.add(count, ordering: .relaxed).newValue)
    }

    /// Records that a message was handled, with one of a fixed set of outcomes.
    func ended(_ outcome: String, after duration: Duration) {
        left(1)
        record(outcome, after: duration)
    }

    /// Records that this many messages are no longer being handled.
    package func left(_ count: Int) {
        inFlight.set(running.subtract(count, ordering: .relaxed).newValue)
    }

    /// Records the outcome of a message.
    package func record(_ outcome: String, after duration: Duration) {
        let timer = durations.withLock { timers in
            if let timer = timers[outcome] { return timer }
            let dimensions = Self.dimensions(queue) + [(AMQPMetricDimension.outcome.rawValue, outcome)]
            let timer = Timer(label: AMQPMetricName.processDuration.rawValue, dimensions: dimensions, factory: factory)
            timers[outcome] = timer
            return timer
        }
        timer.recordNanoseconds(duration.wholeNanoseconds)
    }

    /// Records the number of handlers that are running after they were cancelled.
    package func zombies(_ count: Int) { zombies.set(count) }

    /// Records the maximum number of unsettled deliveries.
    func prefetch(_ count: Int) { prefetch.set(count) }
}
