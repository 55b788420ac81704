import NIOCore
import Synchronization

/// Watches the number of handlers that are running after they were cancelled, and reports when there have been too many for a while.
///
/// Every cancelled handler is a zombie until it notices: a large number is significant only if it lasts.
final class ZombieWatch: Sendable {
    /// How long there may be too many.
    static var tolerance: TimeAmount { .seconds(1) }

    private struct State {
        var count = 0
        var isTooMany = false
        var check: Scheduled<Void>?
        var hasEnded = false
        var onChange: (@Sendable () -> Void)?
    }

    private let limit: Int
    private let eventLoop: any EventLoop
    private let state = Mutex(State())

    /// - Parameter limit: The maximum number that is not too many.
    init(limit: Int, eventLoop: any EventLoop) {
        self.limit = max(1, limit)
        self.eventLoop = eventLoop
    }

    /// Begins to watch. `onChange` is called when ``isTooMany`` may have changed.
    func begin(onChange: @escaping @Sendable () -> Void) {
        state.withLock { $0.onChange = onChange }
    }

    /// Whether there have been too many for a while.
    var isTooMany: Bool { state.withLock { $0.isTooMany } }

    /// The number has changed. Calls no callback, because it may be called under a lock.
    func changed(to count: Int) {
        state.withLock { state in
            guard !state.hasEnded else { return }
            state.count = count
            guard count <= limit else {
                if !state.isTooMany, state.check == nil {
                    state.check = eventLoop.scheduleTask(in: Self.tolerance) { [weak self] in self?.look() }
                }
                return
            }
            state.check?.cancel()
            state.check = nil
            guard state.isTooMany else { return }
            state.isTooMany = false
            if let onChange = state.onChange { eventLoop.execute(onChange) }
        }
    }

    private func look() {
        let notify = state.withLock { state -> (@Sendable () -> Void)? in
            state.check = nil
            guard !state.hasEnded, state.count > limit else { return nil }
            state.isTooMany = true
            return state.onChange
        }
        notify?()
    }

    /// Ends the notifications.
    func end() {
        state.withLock { state in
            state.hasEnded = true
            state.check?.cancel()
            state.check = nil
            state.onChange = nil
        }
    }
}
