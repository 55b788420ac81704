import ConcurrencyPrimitives

/// The source of time and timers for supervisors.
///
/// The default is ``SystemSupervisionClock``. Tests use a clock that they advance by hand (`ManualClock` in `SupervisionTesting`), so that
/// restart windows, backoffs and shutdown timeouts pass without waiting.
public protocol SupervisionClock: Sendable {
    /// The time since a fixed instant; it never decreases.
    var now: Duration { get }

    /// Runs `action` once after `delay`, unless the timer is cancelled first. The action must not block.
    func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer
}

/// A scheduled action. Cancelling releases the action; an action that has begun is not interrupted.
public struct SupervisionTimer: Sendable {
    private let onCancel: @Sendable () -> Void

    /// Creates a timer that `onCancel` withdraws.
    public init(onCancel: @escaping @Sendable () -> Void) {
        self.onCancel = onCancel
    }

    /// Withdraws the action if it has not begun.
    public func cancel() {
        onCancel()
    }
}

/// The system's monotonic clock, with all timers on a dedicated thread: they fire even while every thread of Swift's cooperative pool is
/// blocked.
public final class SystemSupervisionClock: SupervisionClock {
    /// The clock that supervisors use by default.
    public static let shared = SystemSupervisionClock()

    private init() {}

    /// The time since the process first used this clock.
    public var now: Duration { SystemTimers.shared.now }

    /// Runs `action` on the timer thread after `delay`.
    public func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer {
        SupervisionTimer(onCancel: SystemTimers.shared.schedule(after: delay, action).onCancel)
    }
}
