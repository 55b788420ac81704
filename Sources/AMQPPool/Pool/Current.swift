package import Supervision
import Synchronization

/// What the living incarnation of a process offers: looked up without a hop, and waited for while there is none.
package final class Current<Value: AnyObject & Sendable>: Sendable {
    /// Why there is no value.
    package enum Absence: Error, Sendable {
        /// The tree that makes incarnations has ended, for this reason: nobody makes another one before it is started again.
        case ended(ExitReason)
        /// The time is over.
        case deadline
        case cancelled
        /// As many wait for it as may.
        case overloaded(limit: Int)
    }

    private struct State {
        var value: Value?
        /// Why the tree has ended, if it has.
        var ended: ExitReason?
        /// The root of the tree that the last value came from.
        var root: Pid?
        var lastWaiter: UInt64 = 0
        var waiters: [UInt64: CheckedContinuation<Wake, Never>] = [:]
    }

    private enum Wake {
        case changed
        case absent(Absence)
    }

    private let state = Mutex(State())
    private let limit: Int

    /// - Parameter limit: How many may wait at once.
    package init(limit: Int) {
        self.limit = limit
    }

    /// The value, if there is one now.
    package var value: Value? { state.withLock { $0.value } }

    /// The value of a living incarnation other than `old`, waited for until the deadline.
    package nonisolated(nonsending) func value(
        otherThan old: Value? = nil,
        before deadline: ContinuousClock.Instant
    ) async throws(Absence) -> Value {
        while true {
            let (value, ended, waiting) = state.withLock { ($0.value, $0.ended, $0.waiters.count) }
            if let value, value !== old { return value }
            if let ended { throw .ended(ended) }
            guard waiting < limit else { throw .overloaded(limit: limit) }
            if case .absent(let absence) = await change(from: value, before: deadline) { throw absence }
        }
    }

    /// A new incarnation is there.
    package func set(_ value: Value) {
        wakeAll { $0.value = value }
    }

    /// An incarnation is gone.
    package func clear(_ value: Value) {
        state.withLock { if $0.value === value { $0.value = nil } }
    }

    /// A new incarnation is there, whose process has this context.
    package func set(_ value: Value, in context: ChildContext) {
        begin(in: context)
        set(value)
    }

    /// The same, unless another incarnation is alive. Returns whether this one is the living one now.
    package func claim(_ value: Value, in context: ChildContext) -> Bool {
        var isClaimed = false
        wakeAll { state in
            guard state.value == nil else { return }
            state.value = value
            isClaimed = true
        }
        if isClaimed { begin(in: context) }
        return isClaimed
    }

    /// The tree of this context starts: an incarnation will come from it. When the tree ends, those who wait are told.
    package func begin(in context: ChildContext) {
        let root = context.supervisor.root.pid
        let isKnown = state.withLock { state in
            defer { (state.root, state.ended) = (root, nil) }
            return state.root == root
        }
        // Once for each incarnation of the tree, however often the value is made anew in it.
        guard !isKnown else { return }
        root.onExit { [weak self] reason in
            self?.wakeAll { state in
                if state.root == root { state.ended = reason }
            }
        }
    }

    /// What becomes of the tree, when it is one of its own. While there is a value it came from another tree, which goes on.
    package func follow(_ phase: Supervisor.RootPhase) {
        wakeAll { state in
            guard state.value == nil else { return }
            switch phase {
            case .starting: (state.ended, state.root) = (nil, nil)
            case .ended(let reason): state.ended = reason
            }
        }
    }

    /// It is being stopped on purpose: those who need the next incarnation wait in vain.
    package func stop() {
        wakeAll { $0.ended = .shutdown() }
    }

    private func wakeAll(_ change: (inout State) -> Void) {
        let waiters = state.withLock { state in
            change(&state)
            defer { state.waiters = [:] }
            return state.waiters
        }
        for waiter in waiters.values { waiter.resume(returning: .changed) }
    }

    private nonisolated(nonsending) func change(
        from value: Value?,
        before deadline: ContinuousClock.Instant
    ) async -> Wake {
        let id = state.withLock { state in
            state.lastWaiter += 1
            return state.lastWaiter
        }
        let timer = SystemSupervisionClock.shared.schedule(after: ContinuousClock.now.duration(to: deadline)) {
            [weak self] in self?.wake(id, .absent(.deadline))
        }
        defer { timer.cancel() }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Looked at under the lock: what changes, and what is over, after this wakes the waiter.
                let wake = state.withLock { state -> Wake? in
                    if Task.isCancelled { return .absent(.cancelled) }
                    if state.value !== value || state.ended != nil { return .changed }
                    if ContinuousClock.now >= deadline { return .absent(.deadline) }
                    state.waiters[id] = continuation
                    return nil
                }
                if let wake { continuation.resume(returning: wake) }
            }
        } onCancel: {
            wake(id, .absent(.cancelled))
        }
    }

    private func wake(_ id: UInt64, _ wake: Wake) {
        state.withLock { $0.waiters.removeValue(forKey: id) }?.resume(returning: wake)
    }
}
