import DequeModule
import Synchronization

/// Delivered messages that nobody has taken. Bounded by the prefetch, since all of them are unacknowledged.
final class DeliveryQueue: Sendable {
    private struct State {
        var entries = Deque<UnsettledDelivery>()
        var waiters: [UInt64: CheckedContinuation<UnsettledDelivery?, Never>] = [:]
        var lastWaiter: UInt64 = 0
        var isFinished = false
    }

    private let state = Mutex(State())

    func append(_ delivery: UnsettledDelivery) {
        let waiter = state.withLock { state -> CheckedContinuation<UnsettledDelivery?, Never>? in
            if state.isFinished { return nil }
            if let (_, waiter) = state.waiters.popFirst() { return waiter }
            state.entries.append(delivery)
            return nil
        }
        waiter?.resume(returning: delivery)
    }

    /// Waits for a delivery. Returns `nil` when the queue has ended, or the task is cancelled.
    func next() async -> UnsettledDelivery? {
        // Fast path: usually there is one, and preparing to wait costs as much as taking it.
        if !Task.isCancelled, let delivery = state.withLock({ $0.entries.popFirst() }) { return delivery }
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { (continuation: CheckedContinuation<UnsettledDelivery?, Never>) in
                let (isOver, delivery) = state.withLock { state -> (Bool, UnsettledDelivery?) in
                    if Task.isCancelled { return (true, nil) }
                    if let delivery = state.entries.popFirst() { return (true, delivery) }
                    if state.isFinished { return (true, nil) }
                    state.waiters[id] = continuation
                    return (false, nil)
                }
                if isOver { continuation.resume(returning: delivery) }
            }
        } onCancel: {
            state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: nil)
        }
    }

    /// Removes a delivery that nobody has taken.
    func remove(_ run: UInt64) {
        state.withLock { state in state.entries.removeAll { $0.run == run } }
    }

    /// Ends the queue: current and later waiters get nothing more.
    func finish() {
        let waiters = state.withLock { state in
            state.isFinished = true
            state.entries.removeAll()
            defer { state.waiters = [:] }
            return state.waiters.values
        }
        for waiter in waiters { waiter.resume(returning: nil) }
    }
}
