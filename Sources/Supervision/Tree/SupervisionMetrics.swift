import ConcurrencyPrimitives
import Metrics
import Synchronization

/// What a tree measures, with the dimension `tree`, its root's name.
///
/// | label | kind | what |
/// |---|---|---|
/// | `supervision.restarts` | counter | incarnations that followed another |
/// | `supervision.exits.abnormal` | counter | children that were killed or crashed |
/// | `supervision.children` | meter | processes that are alive, supervisors included |
/// | `supervision.zombies` | meter | tasks that ignored their cancellation and still run |
/// | `supervision.start.duration` | timer | from the start of a start closure to its return |
/// | `supervision.restart.duration` | timer | from an exit to the next incarnation's start, delays included |
final class SupervisionMetrics: Sendable {
    private let alive = Atomic<Int>(0)
    let restarts: Counter
    let abnormalExits: Counter
    let children: Meter
    let zombies: Meter
    let startDuration: Timer
    let restartDuration: Timer

    init(tree: String) {
        let dimensions = [("tree", tree)]
        restarts = Counter(label: "supervision.restarts", dimensions: dimensions)
        abnormalExits = Counter(label: "supervision.exits.abnormal", dimensions: dimensions)
        children = Meter(label: "supervision.children", dimensions: dimensions)
        zombies = Meter(label: "supervision.zombies", dimensions: dimensions)
        startDuration = Timer(label: "supervision.start.duration", dimensions: dimensions)
        restartDuration = Timer(label: "supervision.restart.duration", dimensions: dimensions)
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

    func zombies(_ count: Int) {
        zombies.set(count)
    }
}

extension Timer {
    func record(_ duration: Duration) {
        recordNanoseconds(duration.wholeNanoseconds)
    }
}
