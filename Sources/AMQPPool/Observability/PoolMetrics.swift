internal import ConcurrencyPrimitives
package import Metrics
import Synchronization

extension MetricsSystem {
    /// Where metrics go: the factory that was given, or the one that `MetricsSystem` was bootstrapped with. `nil`, so that nothing is
    /// measured, when that is none.
    package static func activeFactory(_ given: (any MetricsFactory)?) -> (any MetricsFactory)? {
        let factory = given ?? Self.factory
        return factory is NOOPMetricsHandler ? nil : factory
    }
}

/// The metrics of a pool's connections, and of messages published on them: see `docs/observability.md`.
final class PoolMetrics: Sendable {
    /// The current number of something.
    private final class Level: Sendable {
        private let meter: Meter
        private let count = Atomic(0)

        init(_ name: AMQPMetricName, _ dimensions: [(String, String)], _ factory: any MetricsFactory) {
            meter = Meter(label: name.rawValue, dimensions: dimensions, factory: factory)
            meter.set(0)
        }

        func add(_ difference: Int) {
            meter.set(count.add(difference, ordering: .relaxed).newValue)
        }
    }

    private struct Destination: Hashable {
        var name: String
        var outcome: String
    }

    private final class Sent: Sendable {
        let duration: Timer
        let count: Counter

        init(_ destination: Destination, _ pool: String, _ factory: any MetricsFactory) {
            let dimensions =
                PoolMetrics.dimensions(pool) + [
                    (AMQPMetricDimension.destination.rawValue, destination.name),
                    (AMQPMetricDimension.operation.rawValue, "publish"),
                    (AMQPMetricDimension.outcome.rawValue, destination.outcome),
                ]
            duration = Timer(label: AMQPMetricName.operationDuration.rawValue, dimensions: dimensions, factory: factory)
            count = Counter(label: AMQPMetricName.sent.rawValue, dimensions: dimensions, factory: factory)
        }
    }

    /// The maximum number of distinct destinations: later ones are counted under `_OTHER`, so that names from outside cannot fill the
    /// memory.
    static let maximumDestinations = 1000

    private let pool: String
    private let factory: any MetricsFactory
    private let sent = Mutex<[Destination: Sent]>([:])
    private let publishing: Level
    private let connections: Level
    private let channels: Level
    private let connected: Meter
    private let blocked: Meter
    private let returned: Counter
    private let confirms: Timer
    private let reconnects: Counter
    private let failures = Mutex<[String: Counter]>([:])

    /// Returns `nil` if no metrics are collected.
    init?(pool: String, factory: (any MetricsFactory)?) {
        guard let factory = MetricsSystem.activeFactory(factory) else { return nil }
        self.pool = pool
        self.factory = factory
        let dimensions = Self.dimensions(pool)
        publishing = Level(.unconfirmed, dimensions, factory)
        connections = Level(.connections, dimensions, factory)
        channels = Level(.channels, dimensions, factory)
        connected = Meter(label: AMQPMetricName.connected.rawValue, dimensions: dimensions, factory: factory)
        blocked = Meter(label: AMQPMetricName.blocked.rawValue, dimensions: dimensions, factory: factory)
        returned = Counter(label: AMQPMetricName.returned.rawValue, dimensions: dimensions, factory: factory)
        confirms = Timer(label: AMQPMetricName.confirmDuration.rawValue, dimensions: dimensions, factory: factory)
        reconnects = Counter(label: AMQPMetricName.reconnects.rawValue, dimensions: dimensions, factory: factory)
        connected.set(0)
        blocked.set(0)
    }

    private static func dimensions(_ pool: String) -> [(String, String)] {
        [(AMQPMetricDimension.system.rawValue, "rabbitmq"), (AMQPMetricDimension.pool.rawValue, pool)]
    }

    // MARK: Connections

    func connectionOpened(isFirst: Bool) {
        connections.add(1)
        if !isFirst { reconnects.increment() }
    }

    func connectionEnded() { connections.add(-1) }

    func channels(_ difference: Int) { channels.add(difference) }

    func connected(_ isConnected: Bool) { connected.set(isConnected ? 1 : 0) }

    func blocked(_ isBlocked: Bool) { blocked.set(isBlocked ? 1 : 0) }

    func connectFailed(_ error: AMQPError) {
        let reason = error.isRefusal ? "refused" : error.stage.rawValue
        let counter = failures.withLock { counters in
            if let counter = counters[reason] { return counter }
            let counter = Counter(
                label: AMQPMetricName.connectFailures.rawValue,
                dimensions: Self.dimensions(pool) + [(AMQPMetricDimension.reason.rawValue, reason)],
                factory: factory
            )
            counters[reason] = counter
            return counter
        }
        counter.increment()
    }

    // MARK: Publishing

    func began(_ count: Int = 1) -> ContinuousClock.Instant {
        publishing.add(count)
        return .now
    }

    func ended(to destination: String, since begun: ContinuousClock.Instant, _ error: AMQPError?) {
        publishing.add(-1)
        let outcome = error?.publishOutcome ?? "confirmed"
        if case .returned = error { returned.increment() }
        let sent = sent.withLock { sent in
            var key = Destination(name: destination, outcome: outcome)
            if let found = sent[key] { return found }
            if sent.count >= Self.maximumDestinations {
                key.name = "_OTHER"
                if let found = sent[key] { return found }
            }
            let new = Sent(key, pool, factory)
            sent[key] = new
            return new
        }
        sent.count.increment()
        sent.duration.recordNanoseconds(begun.duration(to: .now).wholeNanoseconds)
    }

    func ended(to destination: String, since begun: ContinuousClock.Instant, _ result: Result<Void, AMQPError>) {
        switch result {
        case .success: ended(to: destination, since: begun, nil)
        case .failure(let error): ended(to: destination, since: begun, error)
        }
    }

    /// Records that a message written at this instant was confirmed or refused now.
    func confirmed(since written: ContinuousClock.Instant) {
        confirms.recordNanoseconds(written.duration(to: .now).wholeNanoseconds)
    }
}

extension AMQPError {
    /// The outcome of a message, one of a fixed set of values.
    var publishOutcome: String {
        switch self {
        case .returned: "returned"
        case .nacked: "nacked"
        case .refused: "refused"
        case .unconfirmed: "unconfirmed"
        case .notSent(let cause):
            switch cause {
            case .blocked: "blocked"
            case .overloaded: "overloaded"
            case .cancelled: "cancelled"
            case .refused: "refused"
            case .unencodable, .messageTooLarge, .invalidArgument: "invalid"
            case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed,
                .tooFewChannels, .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded,
                .connectionLost, .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed,
                .channelClosedByBroker, .channelClosed, .channelLost, .topologyRefused, .protocolViolation, .timedOut,
                .tooManyChannels, .propertiesRefused, .confirmsNotSelected, .returned, .nacked, .notSent,
                .unconfirmed:
                "not_sent"
            }
        case .cancelled: "cancelled"
        case .unencodable, .messageTooLarge, .invalidArgument: "invalid"
        case .connectFailed, .invalidEndpoint, .tlsFailed, .handshakeFailed, .authenticationFailed, .tooFewChannels,
            .virtualHostRefused, .notConnected, .setUpFailed, .poolNotRunning, .poolEnded, .connectionLost,
            .heartbeatTimeout, .connectionClosedByBroker, .connectionClosed, .channelClosedByBroker, .channelClosed,
            .channelLost, .topologyRefused, .protocolViolation, .timedOut, .blocked, .overloaded, .tooManyChannels,
            .propertiesRefused, .confirmsNotSelected:
            "not_sent"
        }
    }
}
