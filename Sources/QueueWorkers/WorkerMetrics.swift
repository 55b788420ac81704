import AMQPPool
import Metrics
import RPCWire
import Synchronization

/// What a worker measures, by OpenTelemetry's conventions for messaging. `docs/observability.md` lists it.
final class WorkerMetrics: Sendable {
    private let consumed: Counter
    private let inFlight: Meter
    private let zombies: Meter
    private let running = Atomic(0)
    private let queue: String
    private let factory: any MetricsFactory
    private let durations = Mutex<[String: Timer]>([:])

    /// Nil if nobody collects metrics.
    init?(queue: String) {
        guard let factory = activeMetricsFactory(nil) else { return nil }
        self.factory = factory
        self.queue = queue
        let dimensions = Self.dimensions(queue)
        consumed = Counter(label: "messaging.client.consumed.messages", dimensions: dimensions, factory: factory)
        inFlight = Meter(label: "messaging.process.in_flight", dimensions: dimensions, factory: factory)
        zombies = Meter(label: "messaging.process.zombies", dimensions: dimensions, factory: factory)
    }

    private static func dimensions(_ queue: String) -> [(String, String)] {
        [("messaging.system", "rabbitmq"), ("messaging.destination.name", queue)]
    }

    func began(_ count: Int) {
        consumed.increment(by: count)
        inFlight.set(running.add(count, ordering: .relaxed).newValue)
    }

    func ended(_ outcome: String, after duration: Duration) {
        inFlight.set(running.subtract(1, ordering: .relaxed).newValue)
        // The outcomes are ours, so there are few.
        let timer = durations.withLock { timers in
            if let timer = timers[outcome] { return timer }
            let dimensions = Self.dimensions(queue) + [("outcome", outcome)]
            let timer = Timer(label: "messaging.process.duration", dimensions: dimensions, factory: factory)
            timers[outcome] = timer
            return timer
        }
        timer.recordNanoseconds(duration.wholeNanoseconds)
    }

    func zombies(_ count: Int) {
        zombies.set(count)
    }
}
