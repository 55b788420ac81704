import ConcurrencyPrimitives
import Metrics
import Synchronization

/// The names of a tree's metrics. A test compares them with `docs/observability.md`.
package enum SupervisionMetricName: String, CaseIterable, Sendable {
    case restarts = "supervision.restarts"
    case abnormalExits = "supervision.exits.abnormal"
    case children = "supervision.children"
    case zombies = "supervision.zombies"
    case mailbox = "supervision.mailbox"
    case startDuration = "supervision.start.duration"
    case restartDuration = "supervision.restart.duration"
}

/// The metrics of a tree, with the dimension `tree`, its root's name.
final class SupervisionMetrics: Sendable {
    private let alive = Atomic<Int>(0)
    let restarts: Counter
    let abnormalExits: Counter
    let children: Meter
    let zombies: Meter
    private let mailbox: Meter
    private let waiting = Atomic<Int>(0)
    let startDuration: Timer
    let restartDuration: Timer

    /// Returns `nil` if no metrics are collected: then events cost no counting and no clock reading.
    init?(tree: String) {
        guard !(MetricsSystem.factory is NOOPMetricsHandler) else { return nil }
        let dimensions = [("tree", tree)]
        restarts = Counter(label: SupervisionMetricName.restarts.rawValue, dimensions: dimensions)
        abnormalExits = Counter(label: SupervisionMetricName.abnormalExits.rawValue, dimensions: dimensions)
        children = Meter(label: SupervisionMetricName.children.rawValue, dimensions: dimensions)
        zombies = Meter(label: SupervisionMetricName.zombies.rawValue, dimensions: dimensions)
        mailbox = Meter(label: SupervisionMetricName.mailbox.rawValue, dimensions: dimensions)
        startDuration = Timer(label: SupervisionMetricName.startDuration.rawValue, dimensions: dimensions)
        restartDuration = Timer(label: SupervisionMetricName.restartDuration.rawValue, dimensions: dimensions)
    }

    func childStarted(isRestart: Bool, downFor: Duration?) {
        children.set(alive.add(1, ordering: .relaxed).newValue)
        if isRestart { restarts.increment() }
        if let downFor { restartDuration.record(downFor) }
    }

    func childEnded(_ reason: ExitReason) {
        children.set(alive.subtract(1, ordering: .relaxed).newValue)
        if reason.isAbnormal { abnormalExits.increment() }
    }

    /// Adds to the number of events in the mailboxes of the tree's supervisors.
    func mailbox(_ difference: Int) {
        mailbox.set(waiting.add(difference, ordering: .relaxed).newValue)
    }

    func zombies(_ count: Int) {
        zombies.set(count)
    }
}

extension Timer {
    func record(_ duration: Duration) {
        recordNanoseconds(duration.wholeNanoseconds)
    }
}
