package import NIOCore
import Synchronization

/// One event-loop timer for a whole heap of deadlines.
///
/// It fires on its event loop, not before the earliest deadline it was armed with since it last fired; the owner of the heap then removes
/// what is due and arms the timer with the next deadline. It does not depend on the cooperative pool, so deadlines are kept while that is
/// blocked.
package final class DeadlineTimer: Sendable {
    private let loop: any EventLoop
    private let fire: @Sendable () -> Void
    private let state = Mutex(State())

    private struct State {
        var armed: CompactInstant?
        var scheduled: Scheduled<Void>?
        var isCancelled = false
    }

    /// Creates a timer that calls `fire` on the event loop.
    package init(on loop: any EventLoop, fire: @escaping @Sendable () -> Void) {
        self.loop = loop
        self.fire = fire
    }

    /// Ensures that the timer fires at this deadline at the latest.
    package func arm(_ deadline: ContinuousClock.Instant) {
        arm(CompactInstant(deadline))
    }

    /// Ensures that the timer fires at this deadline at the latest.
    package func arm(_ deadline: CompactInstant) {
        state.withLock { state in
            guard !state.isCancelled else { return }
            if let armed = state.armed, armed <= deadline { return }
            state.scheduled?.cancel()
            state.armed = deadline
            // Plus a microsecond, so that rounding never makes it fire before the deadline.
            let delay = max(.zero, CompactInstant.now.duration(to: deadline)) + .microseconds(1)
            state.scheduled = loop.scheduleTask(in: TimeAmount(delay)) { [weak self] in self?.fired() }
        }
    }

    /// Cancels the timer: it does not fire any more.
    package func cancel() {
        state.withLock { state in
            state.isCancelled = true
            state.armed = nil
            state.scheduled?.cancel()
            state.scheduled = nil
        }
    }

    private func fired() {
        let isCancelled = state.withLock { state in
            state.armed = nil
            state.scheduled = nil
            return state.isCancelled
        }
        if !isCancelled { fire() }
    }
}
