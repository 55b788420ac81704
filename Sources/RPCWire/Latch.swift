package import NIOCore
import Synchronization

/// Something that many wait for, and that happens once.
package final class Latch: Sendable {
    private struct State {
        var isOpen = false
        var lastWaiter: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Bool, Never>] = [:]
    }

    private let state = Mutex(State())
    private let eventLoop: any EventLoop

    package init(on eventLoop: any EventLoop) {
        self.eventLoop = eventLoop
    }

    /// It has happened: everybody who waits goes on. Again it does nothing.
    package func open() {
        let waiters = state.withLock { state in
            state.isOpen = true
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume(returning: true) }
    }

    /// Waits until it has happened; `false` at the deadline, or when the task is cancelled.
    package func wait(before deadline: ContinuousClock.Instant) async -> Bool {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        let timer = DeadlineTimer(on: eventLoop) { [weak self] in self?.giveUp(id) }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isOpen = state.withLock { state -> Bool? in
                    if state.isOpen { return true }
                    if Task.isCancelled { return false }
                    state.waiters[id] = continuation
                    return nil
                }
                if let isOpen { continuation.resume(returning: isOpen) } else { timer.arm(deadline) }
            }
        } onCancel: {
            giveUp(id)
        }
    }

    private func giveUp(_ id: UInt64) {
        state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: false)
    }
}
