import ConcurrencyPrimitives
import Supervision
import Synchronization

/// A clock that stands still until it is advanced: restart windows, backoffs and shutdown timeouts pass without waiting.
///
///     let clock = ManualClock()
///     let supervisor = Supervisor("app", clock: clock) { ... }
///     clock.advance(by: .seconds(5))
public final class ManualClock: SupervisionClock {
    private struct Timer {
        var deadline: Duration
        var order: UInt64
        var action: @Sendable () -> Void
    }

    private struct State {
        var now = Duration.zero
        var lastToken: UInt64 = 0
        var timers: [UInt64: Timer] = [:]
    }

    private let state = Mutex(State())

    /// Creates a clock at zero.
    public init() {}

    /// The current time.
    public var now: Duration { state.withLock { $0.now } }

    /// The number of timers that wait for the clock to be advanced.
    public var pendingTimers: Int { state.withLock { $0.timers.count } }

    /// Runs `action` when the clock has been advanced by `delay`, on the thread that advances it.
    public func schedule(after delay: Duration, _ action: @escaping @Sendable () -> Void) -> SupervisionTimer {
        let token = state.withLock { state in
            state.lastToken += 1
            state.timers[state.lastToken] = Timer(
                deadline: state.now + max(delay.clamped, .zero),
                order: state.lastToken,
                action: action
            )
            return state.lastToken
        }
        return SupervisionTimer { [weak self] in
            self?.state.withLock { _ = $0.timers.removeValue(forKey: token) }
        }
    }

    /// Advances the clock, and runs the actions that become due, in order.
    public func advance(by duration: Duration) {
        let end = now + duration.clamped
        while let action = next(before: end, upTo: .max) { action() }
        state.withLock { $0.now = max($0.now, end) }
    }

    /// When the next timer is due; `nil` when there is none.
    public var nextTimer: Duration? { state.withLock { $0.timers.values.map(\.deadline).min() } }

    /// Advances the clock to the next timer and runs the actions that are due then. False when there is none.
    @discardableResult
    public func advanceToNextTimer() -> Bool {
        guard let next = nextTimer else { return false }
        advance(by: max(.zero, next - now))
        return true
    }

    /// The number of the timer that was set last.
    var lastTimer: UInt64 { state.withLock { $0.lastToken } }

    /// The same for timers up to this one only: later ones, even if they are due at the same time, wait for the next call. False when there
    /// are none.
    func advanceToNextTimer(upTo order: UInt64) -> Bool {
        let due = state.withLock { state in
            state.timers.values.filter { $0.order <= order }.map(\.deadline).min()
        }
        guard let due else { return false }
        while let action = next(before: due, upTo: order) { action() }
        return true
    }

    private func next(before end: Duration, upTo order: UInt64) -> (@Sendable () -> Void)? {
        state.withLock { state in
            let due = state.timers.filter { $0.value.deadline <= end && $0.value.order <= order }
            guard
                let (token, timer) = due.min(by: {
                    ($0.value.deadline, $0.value.order) < ($1.value.deadline, $1.value.order)
                })
            else { return nil }
            state.timers[token] = nil
            state.now = max(state.now, timer.deadline)
            return timer.action
        }
    }
}
