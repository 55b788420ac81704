import ConcurrencyPrimitives
import Synchronization

extension ChildContext {
    /// Runs `action` once after a time (OTP's `erlang:send_after/3` to oneself).
    ///
    /// The timer belongs to this incarnation: it is gone, and the action's task cancelled, as soon as the incarnation is on its
    /// way out. The incarnation has ended when that task has, or is abandoned with it after its ``ChildOptions/killTimeout``; so
    /// an action never runs beside the next incarnation unnoticed. Time is that of the tree's clock, so that a test turns it. An
    /// error that the action throws crashes the incarnation, as one in OTP's `handle_info` does.
    ///
    ///     context.schedule(after: .seconds(30)) { [weak self] in await self?.expire() }
    ///
    /// - Parameters:
    ///   - delay: How long to wait; less than zero counts as zero.
    ///   - action: What to do, in a task of its own: to touch the actor it awaits one of its methods. It must not wait for the end of
    ///     its own incarnation, which waits for it.
    /// - Returns: The timer, to cancel it before. Does nothing when the incarnation has ended.
    @discardableResult
    public func schedule(
        after delay: Duration,
        _ action: @escaping @Sendable () async throws -> Void
    ) -> SupervisionTimer {
        child.timers().schedule(after: delay.clamped, every: nil, action)
    }

    /// Runs `action` again and again (OTP's `timer:send_interval/2`), first after one interval.
    ///
    /// The beginnings are one interval apart. A turn that comes while the action of an earlier one still runs is left out: there
    /// is never more than one at a time. Otherwise as ``schedule(after:_:)``.
    ///
    /// - Parameters:
    ///   - interval: How far apart; less than a millisecond counts as one.
    ///   - action: What to do each time.
    @discardableResult
    public func schedule(
        every interval: Duration,
        _ action: @escaping @Sendable () async throws -> Void
    ) -> SupervisionTimer {
        let interval = max(interval.clamped, .milliseconds(1))
        return child.timers().schedule(after: interval, every: interval, action)
    }
}

/// The timers of one incarnation. As many as it sets and does not cancel.
final class ProcessTimers: Sendable {
    private struct Entry: Sendable {
        var timer: SupervisionTimer?
        /// When it fires next.
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
    /// Whether the incarnation is up, and waits from now on for an action to end.
    private let begin: @Sendable () -> Bool
    /// An action has ended, with this error.
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

    /// The incarnation is on its way out. Nothing fires any more.
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
            // After a long halt the turns that were missed are not made up for.
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
        // The incarnation waits for it.
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
