import ConcurrencyPrimitives
import Synchronization

extension ChildContext {
    /// Runs `action` once after a delay (OTP's `erlang:send_after/3` to oneself).
    ///
    /// The timer belongs to this incarnation: it is cancelled, together with the action's task, as soon as the incarnation begins to exit.
    /// The incarnation ends only when that task has ended, or is abandoned with it after its ``ChildOptions/killTimeout``; so an action
    /// never runs unnoticed next to the next incarnation. Time is the time of the tree's clock, so tests control it. An error thrown by the
    /// action crashes the incarnation, as in OTP's `handle_info`.
    ///
    ///     context.schedule(after: .seconds(30)) { [weak self] in await self?.expire() }
    ///
    /// - Parameters:
    ///   - delay: How long to wait; negative values count as zero.
    ///   - action: The work, in its own task: to change the actor, it awaits one of the actor's methods. It must not wait for the end of
    ///     its own incarnation, which waits for it.
    /// - Returns: The timer, which can be cancelled. Cancelling does nothing when the incarnation has ended.
    @discardableResult
    public func schedule(
        after delay: Duration,
        _ action: @escaping @Sendable () async throws -> Void
    ) -> SupervisionTimer {
        child.timers().schedule(after: delay.clamped, every: nil, action)
    }

    /// Runs `action` repeatedly (OTP's `timer:send_interval/2`), first after one interval.
    ///
    /// Runs begin one interval apart. A run that is due while the previous one is still in progress is skipped, so at most one runs at a
    /// time. Otherwise it behaves like ``schedule(after:_:)``.
    ///
    /// - Parameters:
    ///   - interval: The time between two beginnings; less than a millisecond counts as one.
    ///   - action: The work of each run.
    @discardableResult
    public func schedule(
        every interval: Duration,
        _ action: @escaping @Sendable () async throws -> Void
    ) -> SupervisionTimer {
        let interval = max(interval.clamped, .milliseconds(1))
        return child.timers().schedule(after: interval, every: interval, action)
    }
}

/// The timers of one incarnation: all that it has set and not cancelled.
final class ProcessTimers: Sendable {
    private struct Entry: Sendable {
        var timer: SupervisionTimer?
        /// When the timer fires next.
        var due: Duration
        let interval: Duration?
        let action: @Sendable () async throws -> Void
        var task: Task<Void, Never>?
        var isRunning = false
    }

    private struct State {
        var entries: [UInt64: Entry] = [:]
        var lastToken: UInt64 = 0
        var hasEnded = false
    }

    private let environment: TreeEnvironment
    /// Begins an action; returns false when the incarnation is not running. Otherwise the incarnation waits for the action's end.
    private let begin: @Sendable () -> Bool
    /// Reports the end of an action, with its error.
    private let ended: @Sendable ((any Error)?) -> Void
    private let state = Mutex(State())

    init(
        environment: TreeEnvironment,
        begin: @escaping @Sendable () -> Bool,
        ended: @escaping @Sendable ((any Error)?) -> Void
    ) {
        self.environment = environment
        self.begin = begin
        self.ended = ended
    }

    func schedule(
        after delay: Duration,
        every interval: Duration?,
        _ action: @escaping @Sendable () async throws -> Void
    ) -> SupervisionTimer {
        let due = environment.clock.now + max(delay, .zero)
        let token = state.withLock { state -> UInt64? in
            guard !state.hasEnded else { return nil }
            state.lastToken += 1
            state.entries[state.lastToken] = Entry(due: due, interval: interval, action: action)
            return state.lastToken
        }
        guard let token else { return SupervisionTimer {} }
        arm(token, due)
        return SupervisionTimer { [weak self] in self?.cancel(token) }
    }

    /// Cancels all timers when the incarnation begins to exit.
    func end() {
        let entries = state.withLock { state in
            state.hasEnded = true
            defer { state.entries = [:] }
            return state.entries
        }
        for entry in entries.values {
            entry.timer?.cancel()
            entry.task?.cancel()
        }
    }

    private func cancel(_ token: UInt64) {
        let entry = state.withLock { $0.entries.removeValue(forKey: token) }
        entry?.timer?.cancel()
        entry?.task?.cancel()
    }

    private func arm(_ token: UInt64, _ due: Duration) {
        let timer = environment.clock.schedule(after: due - environment.clock.now) { [weak self] in self?.fire(token) }
        let isKept = state.withLock { state in
            guard state.entries[token] != nil else { return false }
            state.entries[token]?.timer = timer
            return true
        }
        if !isKept { timer.cancel() }
    }

    private func fire(_ token: UInt64) {
        let now = environment.clock.now
        let (action, due) = state.withLock { state -> ((@Sendable () async throws -> Void)?, Duration?) in
            guard let entry = state.entries[token] else { return (nil, nil) }
            let action = entry.isRunning ? nil : entry.action
            state.entries[token]?.isRunning = true
            guard let interval = entry.interval else { return (action, nil) }
            // Intervals missed during a long pause are not made up for.
            let due = max(entry.due + interval, now)
            state.entries[token]?.due = due
            return (action, due)
        }
        if let action { run(token, action) }
        if let due { arm(token, due) }
    }

    private func run(_ token: UInt64, _ action: @escaping @Sendable () async throws -> Void) {
        guard begin() else { return }
        environment.faults.taskBegan()
        // The incarnation waits for this task.
        let task = Task.detached { [self] in
            var failure: (any Error)?
            do {
                try await action()
            } catch {
                if !Task.isCancelled { failure = error }
            }
            state.withLock { state in
                state.entries[token]?.isRunning = false
                state.entries[token]?.task = nil
                if state.entries[token]?.interval == nil { state.entries[token] = nil }
            }
            ended(failure)
            environment.faults.taskEnded()
        }
        let isOver = state.withLock { state in
            guard state.entries[token]?.isRunning == true else { return state.hasEnded }
            state.entries[token]?.task = task
            return false
        }
        if isOver { task.cancel() }
    }
}
