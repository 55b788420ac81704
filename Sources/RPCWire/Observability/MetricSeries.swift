package import Metrics
import Synchronization

/// The timers of one metric, one for each combination of dimensions, created on first use.
///
/// At most ``limit`` combinations are distinguished; later ones are counted under `_OTHER`, so that names from outside cannot fill the
/// memory.
package final class MetricSeries: Sendable {
    /// The dimensions of one series.
    package struct Key: Hashable, Sendable {
        let destination: String?
        let procedure: String
        let outcome: String

        package init(destination: String? = nil, procedure: String, outcome: String) {
            self.destination = destination
            self.procedure = procedure
            self.outcome = outcome
        }

        fileprivate var dimensions: [(String, String)] {
            let destination = destination.map { [(MetricDimension.destination.rawValue, $0)] } ?? []
            return destination + [
                (MetricDimension.procedure.rawValue, procedure), (MetricDimension.outcome.rawValue, outcome),
            ]
        }
    }

    static let limit = 1000

    private let name: MetricName
    private let service: String
    private let factory: any MetricsFactory
    private let timers = Mutex<[Key: Timer]>([:])

    package init(_ name: MetricName, service: String, factory: any MetricsFactory) {
        self.name = name
        self.service = service
        self.factory = factory
    }

    /// Records a duration with its outcome.
    package func record(_ duration: Duration, _ key: Key) {
        timer(key).recordNanoseconds(duration.wholeNanoseconds)
    }

    private func timer(_ key: Key) -> Timer {
        timers.withLock { timers in
            if let timer = timers[key] { return timer }
            var key = key
            if timers.count >= Self.limit {
                key = Key(
                    destination: key.destination.map { _ in otherName },
                    procedure: otherName,
                    outcome: key.outcome
                )
                if let timer = timers[key] { return timer }
            }
            let dimensions = [(MetricDimension.service.rawValue, service)] + key.dimensions
            let timer = Timer(label: name.rawValue, dimensions: dimensions, factory: factory)
            timers[key] = timer
            return timer
        }
    }
}

extension Duration {
    /// The duration for metrics, clamped to their maximum.
    var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = components
        let (whole, isTooLong) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (nanoseconds, overflow) = whole.addingReportingOverflow(attoseconds / 1_000_000_000)
        return isTooLong || overflow ? (seconds < 0 ? .min : .max) : nanoseconds
    }
}

/// A meter of the current number of something.
package final class InFlightMeter: Sendable {
    private let meter: Meter
    private let count = Atomic(0)

    package init(_ name: MetricName, service: String, factory: any MetricsFactory) {
        meter = Meter(
            label: name.rawValue,
            dimensions: [(MetricDimension.service.rawValue, service)],
            factory: factory
        )
    }

    /// Adds one.
    package func begin() {
        meter.set(count.add(1, ordering: .relaxed).newValue)
    }

    /// Removes one.
    package func end() {
        meter.set(count.subtract(1, ordering: .relaxed).newValue)
    }
}

extension Counter {
    /// Creates one of the library's counters.
    package convenience init(
        _ name: MetricName,
        service: String,
        _ dimension: (MetricDimension, String)? = nil,
        factory: any MetricsFactory
    ) {
        var dimensions = [(MetricDimension.service.rawValue, service)]
        if let (dimension, value) = dimension { dimensions.append((dimension.rawValue, value)) }
        self.init(label: name.rawValue, dimensions: dimensions, factory: factory)
    }
}
