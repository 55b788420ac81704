import ConcurrencyPrimitives

/// Where supervisors take the time from, and who wakes them.
///
/// The default is ``SystemSupervisionClock``. Tests put in a clock that they turn by hand (`ManualClock` in
/// `SupervisionTesting`): restart windows, backoffs and shutdown timeouts then pass without waiting.
public protocol SupervisionClock: Sendable {
    /// The time since some fixed moment; it never goes back.
    var now: Duration { get }

    /// Runs `action` once, when `delay` has passed, unless the timer is cancelled before. The action must not block.
    func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer
}

/// A scheduled action. Cancelling it releases the action; one that has begun is not interrupted.
public struct SupervisionTimer: Sendable {
    private let onCancel: @Sendable () -> Void

    /// A timer that `onCancel` withdraws.
    public init(onCancel: @escaping @Sendable () -> Void) {
        self.onCancel = onCancel
    }

    /// Withdraws the action if it has not begun.
    public func cancel() {
        onCancel()
    }
}

/// The monotonic clock of the system, with all timers on one thread of their own: they fire also while every thread of
/// Swift's cooperative pool is blocked.
public final class SystemSupervisionClock: SupervisionClock {
    /// The clock that all supervisors use unless they are given another.
    public static let shared = SystemSupervisionClock()

    private init() {}

    /// The time since the process first used this clock.
    public var now: Duration { SystemTimers.shared.now }

    /// Runs `action` on the timer thread after `delay`.
    public func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer {
        SupervisionTimer(onCancel: SystemTimers.shared.schedule(after: delay, action).onCancel)
    }
}
