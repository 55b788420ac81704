import Supervision
import Synchronization

/// The registry of the pool's living incarnation: looked up without a hop, and waited for while there is none.
final class CurrentRegistry: Sendable {
    private struct State {
        var registry: ChannelRegistry?
        /// On purpose: waiting for another is in vain.
        var isStopped = false
        var waiters: [UInt64: OneShot<Bool>] = [:]
        var lastWaiter: UInt64 = 0
    }

    private let state = Mutex(State())

    var registry: ChannelRegistry? { state.withLock { $0.registry } }

    var poolState: PoolState { registry?.poolState ?? .stopped }

    func set(_ registry: ChannelRegistry) {
        wakeAll { state in
            state.registry = registry
            state.isStopped = false
        }
    }

    func clear(_ registry: ChannelRegistry) {
        state.withLock { if $0.registry === registry { $0.registry = nil } }
    }

    /// The pool itself was told to stop, or to start.
    func setStopped(_ isStopped: Bool) {
        wakeAll { $0.isStopped = isStopped }
    }

    /// The registry, waited for until the deadline: while the pool starts, or starts again.
    ///
    /// - Throws: ``AMQPError/poolNotRunning`` at the deadline, or at once when the pool was stopped;
    ///   ``AMQPError/cancelled(operation:)``. Each inside ``AMQPError/notSent(_:)``.
    func registry(before deadline: ContinuousClock.Instant) async throws(AMQPError) -> ChannelRegistry {
        while true {
            let turn = OneShot<Bool>()
            let (registry, id) = state.withLock { state -> (ChannelRegistry?, UInt64?) in
                if let registry = state.registry { return (registry, nil) }
                if state.isStopped { return (nil, nil) }
                state.lastWaiter += 1
                state.waiters[state.lastWaiter] = turn
                return (nil, state.lastWaiter)
            }
            if let registry { return registry }
            guard let id else {
                // Who tries again at once must not keep the thread from those who would start the pool.
                await Task.yield()
                throw .notSent(.poolNotRunning)
            }
            defer { state.withLock { _ = $0.waiters.removeValue(forKey: id) } }
            let timer = SystemSupervisionClock.shared.schedule(after: ContinuousClock.now.duration(to: deadline)) {
                turn.fire(false)
            }
            defer { timer.cancel() }
            switch await turn.wait() {
            case nil: throw .notSent(.cancelled(operation: "waiting for a channel"))
            case false?: throw .notSent(.poolNotRunning)
            case true?: continue
            }
        }
    }

    /// What is waited for in a registry. When that one ends meanwhile, the wait goes on in the next one.
    ///
    /// - Throws: as ``registry(before:)``, and what `find` throws.
    func wait<Found>(
        before deadline: ContinuousClock.Instant,
        for find: (ChannelRegistry) async throws(AMQPError) -> Found
    ) async throws(AMQPError) -> Found {
        while true {
            let registry = try await registry(before: deadline)
            do throws(AMQPError) {
                return try await find(registry)
            } catch {
                guard registry.isEnded, case .notSent(.poolNotRunning) = error else { throw error }
            }
        }
    }

    private func wakeAll(_ change: (inout State) -> Void) {
        let waiters = state.withLock { state in
            change(&state)
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.fire(true) }
    }
}
