/// How one incarnation of a child comes to its end, as a value: from running, over being asked, cancelled and killed, to
/// ended or abandoned.
///
///     stop(.timeout(T))          T                  killTimeout
///     |--- asked to stop --------|--- cancelled ----|--- abandoned: the exit is announced, its task is a zombie
///
///     kill()       killTimeout
///     |-- cancelled, kill hook --|--- abandoned
///
/// A worker that never took its stop request is cancelled at once instead of asked.
///
/// On its way out an incarnation has one deadline at a time. What asks for an end again, however often, can bring that deadline
/// forward and never puts it off.
struct ShutdownLadder: Sendable {
    enum Step: Sendable {
        case starting
        case running
        case asked(ExitReason)
        case cancelled(ExitReason)
        /// `run()` has ended, `terminate(reason:)` is under way.
        case terminating(ExitReason)
        /// All but actions of its timers has ended.
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
        /// An action of one of its timers has returned or thrown.
        case actionEnded((any Error)?)
        /// The timer of this number has fired. One that was set aside meanwhile may still do so, late.
        case timerFired(UInt64)
        case exit(ExitReason)
        case crash(any Error)
        /// End as if `run()` had returned.
        case finish
        case stop(Shutdown)
        case kill
    }

    enum Action: Sendable, Equatable {
        case requestStop
        case cancelTask
        case runHook
        case runTerminate
        /// In place of the timer that was set before, if there is one. The number comes back with ``Input/timerFired(_:)``.
        case setTimer(Duration, number: UInt64)
        case cancelTimer
        /// Fence it off: from here on it is not called.
        case markEnding
        /// Its task still runs and is left behind.
        case abandon
        case announceStarted
        case announceIgnored
        case announceStartFailed
        case announceExit
    }

    /// Whether the child has a `run()`.
    private(set) var hasRun: Bool
    let hasHook: Bool
    private let policy: ChildPolicy

    private(set) var step = Step.starting
    /// The reason to announce.
    private(set) var reason = ExitReason.normal
    private var hasStarted = false
    /// How the end of one that never started is announced.
    private var startAnnouncement = Action.announceStartFailed
    private(set) var isTaskRunning = true
    /// Actions of its timers that run.
    private var runningActions = 0
    private var hook = Hook.idle
    /// When the timer that is set will fire, `nil` while none is.
    private var deadline: Duration?
    /// The number of the timer that was set last.
    private(set) var lastTimer: UInt64 = 0
    private var now = Duration.zero
    private var simulatesTask = false
    private var isTerminateRunning = false
    /// Whether a kill has come while it was terminating.
    private var isKilledWhileTerminating = false
    private var actions: [Action] = []

    private enum Hook { case idle, running, returned }

    init(hasRun: Bool, hasHook: Bool, policy: ChildPolicy) {
        self.hasRun = hasRun
        self.hasHook = hasHook
        self.policy = policy
    }

    private var killTimeout: Duration { policy.options.killTimeout }

    /// Whether the incarnation has not begun to exit: it is starting, up, or asked to stop.
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

    /// Whether code of the incarnation runs that would be left behind.
    var isAtWork: Bool { isTaskRunning || isTerminateRunning || runningActions > 0 }

    /// How far its exit has come.
    var exitProgress: ExitProgress {
        switch step {
        case .running, .ended: .none
        case .starting, .terminating, .finishing: .underWay
        case .asked: deadline != nil && simulatesTask ? .waitsForTime : .underWay
        case .cancelled: deadline != nil && simulatesTask && hook != .running ? .waitsForTime : .underWay
        }
    }

    enum ExitProgress { case none, underWay, waitsForTime }

    /// Acts from now on as if a task were running. False when the incarnation is not up, or not any more.
    mutating func simulateRunningTask() -> Bool {
        guard case .running = step, !simulatesTask else { return false }
        simulatesTask = true
        isTaskRunning = true
        hasRun = true
        return true
    }

    /// An action of a timer is about to run. False when the incarnation is not up: then it must not.
    mutating func beginAction() -> Bool {
        guard isLive else { return false }
        runningActions += 1
        return true
    }

    /// `observesStop`: whether the worker has taken its stop request.
    mutating func handle(_ input: Input, observesStop: Bool, at now: Duration) -> [Action] {
        self.now = now
        switch input {
        case .started: started()
        case .ignored: startEnded(.announceIgnored, .normal)
        case .startFailed(let error): startEnded(.announceStartFailed, .crashed(error))
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
            // Too late: nobody wants it any more. What it opened is closed by its hook.
            isTaskRunning = false
            runHook()
            if hook != .running { end(reason) }
        case .ended:
            isTaskRunning = false
            runHook()
        case .running, .asked, .terminating, .finishing: return
        }
    }

    private mutating func startEnded(_ announcement: Action, _ startReason: ExitReason) {
        isTaskRunning = false
        switch step {
        case .starting:
            startAnnouncement = announcement
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
            // Whether it ended as asked is told by what was asked, not by the error: a cancellation it was not asked for
            // is a crash, one that answers a request is not.
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
            // Somebody else had asked it; now there is a limit.
            if deadline == nil, let limit { setTimer(limit) }
        case .terminating, .finishing, .ended: return
        }
    }

    /// Ends it in a way that cannot be declined: cancels it, runs the hook, waits at most the kill timeout.
    private mutating func forceExit(_ reason: ExitReason) {
        switch step {
        case .starting, .running, .asked, .cancelled:
            if !isTaskRunning, !hasHook { return end(reason) }
            cancel(reason, after: killTimeout)
            if hasStarted { runHook() }
        case .terminating where !isKilledWhileTerminating:
            // It is ending already, and gets no more time than a kill gives.
            isKilledWhileTerminating = true
            step = .terminating(reason)
            self.reason = reason
            actions.append(.markEnding)
            // What it waits for while it terminates may be what the hook closes.
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
            // The time to ask is over: from here on it is a kill, and what it holds open is closed for it.
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
        announce(hasStarted ? .announceExit : startAnnouncement)
    }

    /// Cancels the actions that run, and waits for them as long as a kill waits.
    private mutating func finishing(_ reason: ExitReason) {
        if case .finishing = step { return }
        step = .finishing(reason)
        actions.append(.markEnding)
        bringForward(killTimeout)
    }

    /// What happens to every child, and mostly alone, so that it is not worth an array each time.
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
        deadline = now + duration
        lastTimer += 1
        actions.append(.setTimer(duration, number: lastTimer))
    }

    /// Sets the timer, unless the one that is set fires earlier.
    private mutating func bringForward(_ duration: Duration) {
        if let deadline, deadline <= now + duration { return }
        setTimer(duration)
    }

    private mutating func dropTimer() {
        guard deadline != nil else { return }
        deadline = nil
        actions.append(.cancelTimer)
    }
}
