import ConcurrencyPrimitives

/// The shutdown of one incarnation of a child, as a state machine: running, asked to stop, cancelled, killed, and finally ended or
/// abandoned.
///
///     stop(.timeout(T))          T                  killTimeout
///     |--- asked to stop --------|--- cancelled ----|--- abandoned: the exit is announced, its task is a zombie
///
///     kill()       killTimeout
///     |-- cancelled, kill hook --|--- abandoned
///
/// A worker that never took its stop request is cancelled immediately.
///
/// An incarnation that is shutting down has one deadline at a time. Further requests to stop can only bring that deadline forward.
struct ShutdownLadder: Sendable {
    enum Step: Sendable {
        case starting
        case running
        case asked(ExitReason)
        case cancelled(ExitReason)
        /// `run()` has ended; `terminate(reason:)` is running.
        case terminating(ExitReason)
        /// Everything has ended except actions of its timers.
        case finishing(ExitReason)
        case ended
    }

    enum Input: Sendable {
        case started
        case startFailed(any Error)
        case ignored
        case startTimedOut(any Error)
        /// `run()` returned or threw.
        case taskEnded((any Error)?)
        case terminated
        case hookReturned
        /// An action of a timer returned or threw.
        case actionEnded((any Error)?)
        /// The timer with this number fired. A timer that has been replaced may still fire late.
        case timerFired(UInt64)
        case exit(ExitReason)
        case crash(any Error)
        /// Exit as if `run()` had returned.
        case finish
        case stop(Shutdown)
        case kill
    }

    enum Action: Sendable, Equatable {
        case requestStop
        case cancelTask
        case runHook
        case runTerminate
        /// Replaces the timer that was set before. The number comes back with ``Input/timerFired(_:)``.
        case setTimer(Duration, number: UInt64)
        case cancelTimer
        /// Fence off the incarnation: it receives no more calls.
        case markEnding
        /// Its task still runs and is left behind as a zombie.
        case abandon
        case announceStarted
        case announceIgnored
        case announceStartFailed
        case announceExit
    }

    /// Whether the child has a `run()`.
    let hasRun: Bool
    let hasHook: Bool
    private let policy: ChildPolicy

    private(set) var step = Step.starting
    /// The exit reason to announce.
    private(set) var reason = ExitReason.normal
    private var hasStarted = false
    /// Whether the start closure returned `nil`.
    private var isIgnored = false
    private(set) var isTaskRunning = true
    /// The number of timer actions that are running.
    private var runningActions = 0
    private var hook = Hook.idle
    /// When the current timer fires, in nanoseconds; `nil` when there is none.
    private var deadline: Int64? {
        get { deadlineOrMax == .max ? nil : deadlineOrMax }
        set { deadlineOrMax = newValue ?? .max }
    }
    private var deadlineOrMax = Int64.max
    /// The number of the most recent timer.
    private(set) var lastTimer: UInt64 = 0
    private var now: Int64 = 0
    private var isTerminateRunning = false
    /// Whether a kill arrived while `terminate(reason:)` was running.
    private var isKilledWhileTerminating = false
    private var actions: [Action] = []

    private enum Hook { case idle, running, returned }

    init(hasRun: Bool, hasHook: Bool, policy: ChildPolicy) {
        self.hasRun = hasRun
        self.hasHook = hasHook
        self.policy = policy
    }

    private var killTimeout: Duration { policy.options.killTimeout }

    /// Whether the incarnation has not begun to exit: it is starting, running or has been asked to stop.
    var isLive: Bool {
        switch step {
        case .starting, .running, .asked: true
        case .cancelled, .terminating, .finishing, .ended: false
        }
    }

    var isFinished: Bool {
        if case .ended = step { return true }
        return false
    }

    /// Whether code of the incarnation is still running and would be left behind by abandoning it.
    var isAtWork: Bool { isTaskRunning || isTerminateRunning || runningActions > 0 }

    /// How far the exit has progressed.
    var exitProgress: ExitProgress {
        switch step {
        case .running, .ended: .none
        case .starting, .asked, .cancelled, .terminating, .finishing: .underWay
        }
    }

    enum ExitProgress { case none, underWay, waitsForTime }

    /// Whether a timer limits the exit, and no hook is running.
    var waitsForTimer: Bool { deadline != nil && hook != .running }

    /// Records that a timer action is about to run. Returns false when the incarnation is not running; the action must not run then.
    mutating func beginAction() -> Bool {
        guard isLive else { return false }
        runningActions += 1
        return true
    }

    /// Decides the common cases in one step and without a clock: a child without `run()` comes up, or ends while it has no hook and
    /// no running action. Returns `nil` and changes nothing in all other cases.
    ///
    /// ``handle(_:observesStop:at:)`` makes the same decisions; a test compares both.
    mutating func handleDirectly(_ input: Input) -> [Action]? {
        switch (step, input) {
        case (.starting, .started):
            guard !hasRun else { return nil }
            step = .running
            hasStarted = true
            isTaskRunning = false
            return ShutdownLadder.onlyStarted
        case (.running, .kill), (.running, .stop(.brutalKill)): return endDirectly(.killed)
        case (.running, .stop): return endDirectly(.shutdown())
        case (.running, .crash(let error)): return endDirectly(.crashed(error))
        case (.running, .exit(let reason)): return endDirectly(reason)
        case (.running, .finish): return endDirectly(.normal)
        case (.starting, _), (.running, _), (.asked, _), (.cancelled, _), (.terminating, _), (.finishing, _),
            (.ended, _):
            return nil
        }
    }

    private mutating func endDirectly(_ reason: ExitReason) -> [Action]? {
        guard !hasRun, !isTaskRunning, !hasHook, runningActions == 0, deadline == nil else { return nil }
        step = .ended
        self.reason = reason
        return ShutdownLadder.onlyExited
    }

    /// - Parameter observesStop: Whether the worker has taken its stop request.
    mutating func handle(_ input: Input, observesStop: Bool, at now: Duration) -> [Action] {
        self.now = now.wholeNanoseconds
        switch input {
        case .started: started()
        case .ignored: startEnded(.normal, isIgnored: true)
        case .startFailed(let error): startEnded(.crashed(error))
        case .startTimedOut(let error):
            if case .starting = step { cancel(.crashed(error), after: killTimeout) }
        case .taskEnded(let error): taskEnded(error)
        case .terminated:
            isTerminateRunning = false
            if case .terminating(let reason) = step { end(reason) }
        case .hookReturned:
            hook = .returned
            if case .cancelled(let reason) = step, !isTaskRunning { end(reason) }
        case .actionEnded(let error): actionEnded(error)
        case .timerFired(let number): timerFired(number)
        case .exit(let reason): exit(reason, observesStop)
        case .crash(let error): forceExit(.crashed(error))
        case .finish: finish()
        case .stop(let mode): stop(mode, observesStop)
        case .kill: forceExit(.killed)
        }
        defer { actions = [] }
        return actions
    }
}

extension ShutdownLadder {
    private mutating func started() {
        switch step {
        case .starting:
            step = .running
            hasStarted = true
            isTaskRunning = hasRun
            announce(.announceStarted)
        case .cancelled(let reason):
            // The start completed too late. The hook closes what the incarnation opened.
            isTaskRunning = false
            runHook()
            if hook != .running { end(reason) }
        case .ended:
            isTaskRunning = false
            runHook()
        case .running, .asked, .terminating, .finishing: return
        }
    }

    private mutating func startEnded(_ startReason: ExitReason, isIgnored: Bool = false) {
        isTaskRunning = false
        switch step {
        case .starting:
            self.isIgnored = isIgnored
            end(startReason)
        case .cancelled(let reason):
            if hook != .running { end(reason) }
        case .running, .asked, .terminating, .finishing, .ended: return
        }
    }

    private mutating func taskEnded(_ error: (any Error)?) {
        guard isTaskRunning else { return }
        isTaskRunning = false
        switch step {
        case .running:
            terminate(error.map(ExitReason.crashed) ?? .normal)
        case .asked(let asked):
            // A cancellation error after a stop request is the answer to that request; without a request it is a crash.
            terminate(error.map { $0 is CancellationError ? asked : .crashed($0) } ?? asked)
        case .cancelled(.killed):
            if hook != .running { end(.killed) }
        case .cancelled(.crashed(let crash)):
            if hook != .running { end(.crashed(crash)) }
        case .cancelled(.normal):
            if hook != .running { terminate(.normal) }
        case .cancelled(let asked):
            guard hook != .running else { return }
            terminate(error.map { $0 is CancellationError ? asked : .crashed($0) } ?? asked)
        case .starting, .terminating, .finishing, .ended: return
        }
    }

    private mutating func actionEnded(_ error: (any Error)?) {
        runningActions -= 1
        if let error, isLive { return forceExit(.crashed(error)) }
        if case .finishing(let reason) = step { end(reason) }
    }

    private mutating func exit(_ reason: ExitReason, _ observesStop: Bool) {
        switch step {
        case .starting: cancel(reason, after: killTimeout)
        case .running where !hasRun: end(reason)
        case .running where observesStop:
            step = .asked(reason)
            actions.append(.requestStop)
        case .running: cancel(reason, after: killTimeout)
        case .asked, .cancelled, .terminating, .finishing, .ended: return
        }
    }

    private mutating func finish() {
        switch step {
        case .running where !hasRun: end(.normal)
        case .starting, .running, .asked: cancel(.normal, after: killTimeout)
        case .cancelled, .terminating, .finishing, .ended: return
        }
    }

    private mutating func stop(_ mode: Shutdown, _ observesStop: Bool) {
        let limit: Duration?
        switch mode {
        case .brutalKill: return forceExit(.killed)
        case .timeout(let timeout): limit = timeout
        case .infinity: limit = nil
        }
        switch step {
        case .starting: cancel(.shutdown(), after: limit.map { $0 + killTimeout })
        case .running where !hasRun: end(.shutdown())
        case .running where observesStop:
            step = .asked(.shutdown())
            actions.append(.requestStop)
            if let limit { setTimer(limit) }
        case .running:
            actions.append(.requestStop)
            cancel(.shutdown(), after: limit.map { $0 + killTimeout })
        case .asked, .cancelled:
            // The first request had no limit; this one has.
            if deadline == nil, let limit { setTimer(limit) }
        case .terminating, .finishing, .ended: return
        }
    }

    /// Forces the incarnation to exit: cancels it, runs the kill hook, and waits at most for the kill timeout.
    private mutating func forceExit(_ reason: ExitReason) {
        switch step {
        case .starting, .running, .asked, .cancelled:
            if !isTaskRunning, !hasHook { return end(reason) }
            cancel(reason, after: killTimeout)
            if hasStarted { runHook() }
        case .terminating where !isKilledWhileTerminating:
            // It is already terminating, and gets no more time than a kill would give it.
            isKilledWhileTerminating = true
            step = .terminating(reason)
            self.reason = reason
            actions.append(.markEnding)
            // `terminate(reason:)` may be waiting for a resource that the hook closes.
            runHook()
            bringForward(killTimeout)
        case .terminating, .finishing, .ended: return
        }
    }

    private mutating func timerFired(_ number: UInt64) {
        guard deadline != nil, number == lastTimer else { return }
        deadline = nil
        switch step {
        case .asked:
            // The time for a voluntary stop is over: from here on this is a kill, and the hook closes what the incarnation holds open.
            cancel(.killed, after: killTimeout)
            runHook()
        case .cancelled(let reason):
            if hasStarted { runHook() }
            if case .crashed = reason {
                end(reason, abandoning: isAtWork)
            } else {
                end(.killed, abandoning: isAtWork)
            }
        case .terminating(let reason), .finishing(let reason):
            runHook()
            end(reason, abandoning: true)
        case .starting, .running, .ended: return
        }
    }

    private mutating func cancel(_ reason: ExitReason, after timeout: Duration?) {
        if case .cancelled = step {
            step = .cancelled(reason)
            if let timeout { bringForward(timeout) }
            return
        }
        self.reason = reason
        actions.append(.markEnding)
        if isTaskRunning { actions.append(.cancelTask) }
        step = .cancelled(reason)
        if let timeout { setTimer(timeout) }
    }

    private mutating func terminate(_ reason: ExitReason) {
        guard hasRun else { return end(reason) }
        step = .terminating(reason)
        self.reason = reason
        switch policy.options.shutdown {
        case .brutalKill: setTimer(killTimeout)
        case .timeout(let timeout): setTimer(timeout)
        case .infinity: dropTimer()
        }
        isTerminateRunning = true
        actions.append(contentsOf: [.markEnding, .runTerminate])
    }

    private mutating func end(_ reason: ExitReason, abandoning: Bool = false) {
        self.reason = reason
        if runningActions > 0, !abandoning { return finishing(reason) }
        step = .ended
        dropTimer()
        if abandoning { actions.append(.abandon) }
        announce(hasStarted ? .announceExit : isIgnored ? .announceIgnored : .announceStartFailed)
    }

    /// Cancels the running timer actions, and waits for them for at most the kill timeout.
    private mutating func finishing(_ reason: ExitReason) {
        if case .finishing = step { return }
        step = .finishing(reason)
        actions.append(.markEnding)
        bringForward(killTimeout)
    }

    /// Every child goes through this, usually with a single action, so it avoids allocating an array.
    private mutating func announce(_ announcement: Action) {
        guard actions.isEmpty else { return actions.append(announcement) }
        switch announcement {
        case .announceStarted: actions = ShutdownLadder.onlyStarted
        case .announceExit: actions = ShutdownLadder.onlyExited
        case .requestStop, .cancelTask, .runHook, .runTerminate, .setTimer, .cancelTimer, .markEnding, .abandon,
            .announceIgnored, .announceStartFailed:
            actions.append(announcement)
        }
    }

    private static let onlyStarted: [Action] = [.announceStarted]
    private static let onlyExited: [Action] = [.announceExit]

    private mutating func runHook() {
        guard hasHook, hook == .idle else { return }
        hook = .running
        actions.append(.runHook)
    }

    private mutating func setTimer(_ duration: Duration) {
        deadline = time(after: duration)
        lastTimer += 1
        actions.append(.setTimer(duration, number: lastTimer))
    }

    /// Sets the timer, unless the current one fires earlier.
    private mutating func bringForward(_ duration: Duration) {
        if let deadline, deadline <= time(after: duration) { return }
        setTimer(duration)
    }

    // Both are clamped to a century, so the sum cannot overflow.
    private func time(after duration: Duration) -> Int64 { now + duration.wholeNanoseconds }

    private mutating func dropTimer() {
        guard deadline != nil else { return }
        deadline = nil
        actions.append(.cancelTimer)
    }
}
