import ConcurrencyPrimitives
import Synchronization

/// One incarnation of a child: runs its start closure and its `run()`, and carries out what its ``ShutdownLadder`` decides.
final class ChildProcess: Sendable, SignalTarget, Launchable {
    private struct State {
        var ladder: ShutdownLadder
        var actor: (any Actor)?
        var task: LaunchedTask?
        /// Decided actions that wait to be performed. The thread that set ``isActing`` performs all of them.
        var actions: [ShutdownLadder.Action] = []
        var isActing = false
        var isCancelled = false
        var terminator = Terminator.taskOfItsOwn
        var isAbandoned = false
        var extras = BoxedOptional<Extras>()

        /// The simulated hang, in a test.
        var hang: SimulatedHang? { extras.read { $0.hang.value } ?? nil }

        mutating func decide(
            _ input: ShutdownLadder.Input,
            at now: Duration
        ) -> [ShutdownLadder.Action] {
            let observesStop = extras.read { $0.stopLatch != nil } ?? false
            guard var hang else { return ladder.handle(input, observesStop: observesStop, at: now) }
            defer { extras.update { $0.hang.value = hang } }
            return hang.handle(input, on: &ladder, observesStop: observesStop, at: now)
        }
    }

    /// Where `terminate(reason:)` runs: in the task of `run()` if that has just ended and was not cancelled, otherwise in a new task.
    private enum Terminator { case taskOfItsOwn, taskOfRun, taskOfRunIsTo }

    /// State that only a few children need.
    private struct Extras: Sendable {
        /// Set if metrics are collected.
        var launchedAt = Duration.zero
        var timer: SupervisionTimer?
        var startTimer: SupervisionTimer?
        var stopLatch: Latch?
        var heartbeats = BoxedOptional<Heartbeats>()
        var hang = BoxedOptional<SimulatedHang>()
        var timers: ProcessTimers?
    }

    private struct Heartbeats: Sendable {
        var timer: SupervisionTimer?
        var last: Duration
    }

    let process: Process
    let specification: ChildSpecification
    /// A reference cycle: the supervisor holds its children. It is broken when the incarnation is dropped.
    let owner: SupervisorProcess
    /// The request that added the child: the same for all its incarnations.
    let entry: UInt64
    let incarnation: Int
    let argument: (any AnyObject & Sendable)?
    private let state: Mutex<State>

    init(
        _ specification: ChildSpecification,
        _ body: ChildSpecification.Body,
        owner: SupervisorProcess,
        slot: SupervisorCore.Slot,
        generation: UInt64,
        entry: UInt64,
        incarnation: Int,
        argument: (any AnyObject & Sendable)?
    ) {
        self.specification = specification
        self.owner = owner
        self.argument = argument
        process = Process(place: Process.Place(owner: owner.process.number, slot: slot, generation: generation))
        self.entry = entry
        self.incarnation = incarnation
        state = Mutex(
            State(
                ladder: ShutdownLadder(
                    hasRun: body.run != nil,
                    hasHook: body.onKill != nil,
                    policy: specification.policy
                )
            )
        )
        process.attach(self)
    }

    /// The child's actor; `nil` for a supervisor.
    private var body: ChildSpecification.Body? {
        guard case .actor(let body) = specification.kind else { return nil }
        return body
    }

    /// The type of its actor.
    var type: String { body.map { String(describing: $0.type) } ?? "" }

    var slot: SupervisorCore.Slot { process.place.slot }

    var generation: UInt64 { process.place.generation }

    var path: String { owner.path(of: specification.id, entry) }

    var actor: (any Actor)? { state.withLock { $0.actor } }

    func stopLatch() -> Latch {
        state.withLock { state in
            state.extras.update(orMake: Extras()) { extras in
                if let latch = extras.stopLatch { return latch }
                let latch = Latch()
                extras.stopLatch = latch
                return latch
            }
        }
    }

    /// The timers of this incarnation. They never fire once it has ended.
    func timers() -> ProcessTimers {
        let (timers, isOver) = state.withLock { state -> (ProcessTimers, Bool) in
            let isOver = !state.ladder.isLive
            return state.extras.update(orMake: Extras()) { extras in
                let timers =
                    extras.timers
                    ?? ProcessTimers(
                        environment: owner.environment,
                        begin: { [weak self] in self?.state.withLock { $0.ladder.beginAction() } ?? false },
                        ended: { [weak self] in self?.handle(.actionEnded($0)) }
                    )
                extras.timers = timers
                return (timers, isOver)
            }
        }
        if isOver { timers.end() }
        return timers
    }

    private func endTimers() {
        let timers = state.withLock { $0.extras.update { $0.timers.take() } ?? nil }
        timers?.end()
    }

    /// Begins the start. The outcome is sent to the supervisor.
    func launch() {
        if owner.environment.metrics != nil {
            let now = owner.environment.clock.now
            state.withLock { $0.extras.update(orMake: Extras()) { $0.launchedAt = now } }
        }
        if let timeout = specification.policy.options.startTimeout {
            let timer = owner.environment.clock.schedule(after: timeout) { [weak self] in
                guard let self else { return }
                self.handle(.startTimedOut(SupervisionError.startTimedOut(child: self.path, after: timeout)))
            }
            state.withLock { $0.extras.update(orMake: Extras()) { $0.startTimer = timer } }
        }
        owner.environment.faults.processBegan()
        if case .inline(let start) = body?.start { return launch(inline: start) }
        if specification.mayStartOnWaitingThread, owner.environment.faults.decidesDirectly, WaitingThread.take(self) {
            return
        }
        keep(PoolWatch.launch(self))
    }

    /// Begins the start on this thread, which waits for it.
    @available(macOS 26, iOS 26, tvOS 26, watchOS 26, visionOS 26, *)
    func launchHere() {
        let task = LaunchedTask(self)
        keep(task)
        task.beginHere()
    }

    private func keep(_ task: LaunchedTask) {
        let (keep, cancelNow) = state.withLock { state in
            let keep = state.ladder.isTaskRunning
            if keep { state.task = task }
            return (keep, state.isCancelled)
        }
        if !keep { task.release() }
        if cancelNow { task.cancel() }
    }

    /// Starts it on this thread, without a task.
    private func launch(inline start: ChildSpecification.Start.Inline) {
        startEnded(
            Result {
                if let fault = owner.environment.faults.takeFault(key) { throw fault }
                return try start(ChildContext(child: self))
            }
        )
    }

    /// The start closure returned or threw.
    private func startEnded(_ outcome: Result<(any Actor)?, any Error>) {
        switch outcome {
        case .success(let actor?):
            state.withLock { $0.actor = actor }
            handle(.started)
        case .success(nil): handle(.ignored)
        case .failure(let error): handle(.startFailed(error))
        }
    }

    // Called one after the other instead of nested, so that a task suspended in `run()`, where it spends most of its life, holds no more
    // memory than it needs.

    nonisolated(nonsending) func begin() async -> Bool {
        owner.environment.faults.taskBegan()
        let hasMoreToDo = await start()
        if !hasMoreToDo { owner.environment.faults.taskEnded() }
        return hasMoreToDo
    }

    @concurrent
    func resume() async {
        var failure: (any Error)?
        // There is no actor if the incarnation has been abandoned in the meantime.
        if let actor, let run = body?.run {
            do { try await run(actor, ChildContext(child: self)) } catch { failure = error }
        }
        state.withLock { $0.terminator = .taskOfRun }
        // The thread is free for the restart.
        WaitingThread.beginsStarts(.all) { handle(.taskEnded(failure)) }
        let terminates = state.withLock { state in
            defer { state.terminator = .taskOfItsOwn }
            return state.terminator == .taskOfRunIsTo
        }
        if terminates { await terminate() }
        owner.environment.faults.taskEnded()
    }

    func stop() {
        handle(.stop(specification.shutdown))
    }

    func receive(_ signal: Signal) {
        switch signal {
        case .exit(let reason), .linked(let reason): handle(.exit(reason))
        case .kill: handle(.kill)
        case .crash(let error): handle(.crash(error))
        case .finish: handle(.finish)
        }
    }

    /// Runs the start closure. Returns whether the incarnation is still running and has a `run()`.
    nonisolated(nonsending) private func start() async -> Bool {
        let outcome: Result<(any Actor)?, any Error>
        do {
            if let fault = owner.environment.faults.takeFault(key) { throw fault }
            outcome = .success(try await body?.start(ChildContext(child: self)))
        } catch {
            outcome = .failure(error)
        }
        let hasRun = body?.run != nil
        if WaitingThread.closureReturned(self) || hasRun {
            startEnded(outcome)
        } else {
            // The task ends here: its thread is free for the next start.
            WaitingThread.beginsStarts(.all) { startEnded(outcome) }
        }
        // False if it was stopped or killed while it was starting: the incarnation has ended.
        return hasRun && state.withLock { $0.actor != nil && $0.ladder.isTaskRunning }
    }

    /// Decides under the lock and acts outside it, in the order of the decisions: the first thread acts for all.
    private func handle(_ input: ShutdownLadder.Input) {
        var (actions, zombieHasEnded) = state.withLock { state -> ([ShutdownLadder.Action], Bool) in
            if owner.environment.faults.decidesDirectly, !state.isActing,
                let action = state.ladder.handleDirectly(input)
            {
                if !state.ladder.isLive { owner.environment.activity.begin() }
                state.isActing = true
                return (action, false)
            }
            let wasLive = state.ladder.isLive
            let wasAtWork = state.ladder.isAtWork
            let actions = state.decide(input, at: owner.environment.clock.now)
            let zombieHasEnded = state.isAbandoned && wasAtWork && !state.ladder.isAtWork
            if zombieHasEnded { owner.environment.zombies.remove(process.number) }
            if wasLive, !state.ladder.isLive { owner.environment.activity.begin() }
            guard !state.isActing else {
                state.actions += actions
                return ([], zombieHasEnded)
            }
            state.isActing = !actions.isEmpty
            return (actions, zombieHasEnded)
        }
        if zombieHasEnded { owner.environment.metrics?.zombies(owner.environment.zombies.count) }
        while !actions.isEmpty {
            for action in actions { perform(action) }
            actions = state.withLock { state in
                defer { state.actions = [] }
                state.isActing = !state.actions.isEmpty
                return state.actions
            }
        }
    }

    private func perform(_ action: ShutdownLadder.Action) {
        switch action {
        case .requestStop:
            let stopLatch = state.withLock { $0.extras.read { $0.stopLatch } ?? nil }
            stopLatch?.open()
        case .cancelTask:
            let task = state.withLock { state in
                state.isCancelled = true
                return state.task
            }
            task?.cancel()
        case .runHook: runHook()
        case .runTerminate: runTerminate()
        case .setTimer(let duration, let number):
            let timer = owner.environment.clock.schedule(after: duration) { [weak self] in
                self?.handle(.timerFired(number))
            }
            let old = state.withLock { state in
                state.extras.update(orMake: Extras()) { extras in
                    defer { extras.timer = timer }
                    return extras.timer
                }
            }
            old?.cancel()
        case .cancelTimer:
            take { $0.timer.take() }?.cancel()
        case .markEnding:
            process.markEnding(state.withLock { $0.ladder.reason })
            endTimers()
        case .abandon:
            if becomeZombie() { owner.abandoned(self) }
        case .announceStarted:
            announceStarted()
        case .announceIgnored:
            announce(.ignored(slot, generation: generation), .normal)
        case .announceStartFailed:
            let reason = state.withLock { $0.ladder.reason }
            announce(.startFailed(slot, generation: generation, reason), reason)
        case .announceExit:
            let reason = state.withLock { $0.ladder.reason }
            announce(.exited(slot, generation: generation, reason), reason)
        }
    }

    /// Adds the incarnation to the zombies. Returns false when its task has ended since that was decided.
    private func becomeZombie() -> Bool {
        let zombie = Zombies.Entry(path: path, process: process, type: type, since: owner.environment.clock.now)
        // Atomic with the check of the task: whoever notices that it has ended removes the entry.
        return state.withLock { state in
            guard state.ladder.isAtWork else { return false }
            state.isAbandoned = true
            owner.environment.zombies.add(zombie)
            return true
        }
    }

    private func announceStarted() {
        if specification.policy.options.startTimeout != nil { take { $0.startTimer.take() }?.cancel() }
        if let metrics = owner.environment.metrics {
            let launchedAt = state.withLock { $0.extras.value?.launchedAt ?? .zero }
            metrics.startDuration.record(owner.environment.clock.now - launchedAt)
        }
        owner.enqueue(.started(slot, generation: generation))
        if body?.run == nil { releaseTask() }
        awaitHeartbeats()
    }

    /// Releases names and notifies watchers before the supervisor decides.
    private func announce(_ event: SupervisorCore.Event, _ reason: ExitReason) {
        process.finish(reason)
        // Released outside the lock: this may be the last reference to the actor, and its deinitializer may use this process.
        let (actor, extras) = state.withLock { state in
            defer {
                state.actor = nil
                state.extras.update {
                    $0.startTimer = nil
                    $0.timers = nil
                    $0.heartbeats.update { $0.timer = nil }
                }
            }
            return (state.actor, state.extras)
        }
        extras.read { extras in
            extras.startTimer?.cancel()
            extras.heartbeats.read { $0.timer }??.cancel()
            extras.timers?.end()
        }
        releaseTask()
        withExtendedLifetime(actor) {}
        owner.environment.faults.processEnded()
        owner.enqueue(event)
        owner.environment.activity.end()
    }

    private func releaseTask() {
        let task = state.withLock { state -> LaunchedTask? in
            defer { state.task = nil }
            return state.task
        }
        task?.release()
    }

    /// Takes a timer out of the extras.
    private func take(_ timer: (inout Extras) -> SupervisionTimer?) -> SupervisionTimer? {
        state.withLock { $0.extras.update(timer) ?? nil }
    }

    private func runHook() {
        let actor = state.withLock { $0.actor }
        guard let actor, let hook = body?.onKill else {
            handle(.hookReturned)
            return
        }
        PoolWatch.launch {
            self.owner.environment.faults.taskBegan()
            await hook(actor)
            self.handle(.hookReturned)
            self.owner.environment.faults.taskEnded()
        }
    }

    private func runTerminate() {
        let isLeftToRun = state.withLock { state in
            guard state.terminator == .taskOfRun, !state.isCancelled else { return false }
            state.terminator = .taskOfRunIsTo
            return true
        }
        if isLeftToRun { return }
        PoolWatch.launch {
            self.owner.environment.faults.taskBegan()
            await self.terminate()
            self.owner.environment.faults.taskEnded()
        }
    }

    private func terminate() async {
        let (actor, reason) = state.withLock { ($0.actor, $0.ladder.reason) }
        if let actor, let terminate = body?.terminate { await terminate(actor, reason) }
        handle(.terminated)
    }
}

// MARK: - A simulated hang

extension ChildProcess {
    /// How far the exit has progressed.
    var exitProgress: ShutdownLadder.ExitProgress {
        state.withLock { state in
            state.hang != nil && state.ladder.waitsForTimer ? .waitsForTime : state.ladder.exitProgress
        }
    }

    /// Begins a simulated hang, if it is running.
    func hang() {
        let hangs = state.withLock { state in
            // A worker whose task is not known yet has only just been launched.
            guard state.hang == nil, !state.ladder.isTaskRunning || state.task != nil,
                let hang = SimulatedHang(&state.ladder, &state.task)
            else { return false }
            state.extras.update(orMake: Extras()) { $0.hang.value = hang }
            return true
        }
        if hangs { owner.environment.faults.hung(self) }
    }

    /// Ends the simulated hang.
    func recover() {
        let (hang, stopLatch) = state.withLock { state in
            let extras = state.extras.value
            state.extras.update { $0.hang.value = nil }
            return (extras?.hang.value, extras?.stopLatch)
        }
        guard let (task, isCancelled, end) = hang?.release(stopLatch) else { return }
        state.withLock { state in
            state.task = task
            if isCancelled { state.isCancelled = true }
        }
        if let end { handle(end) }
        if state.withLock({ $0.ladder.isFinished }) { releaseTask() }
    }
}

// MARK: - Heartbeats

extension ChildProcess {
    /// Records a heartbeat of the child.
    func heartbeat() {
        let now = owner.environment.clock.now
        state.withLock { state in
            state.extras.update(orMake: Extras()) { extras in
                extras.heartbeats.update(orMake: Heartbeats(last: now)) { $0.last = now }
            }
        }
    }

    private func awaitHeartbeats() {
        guard let limit = specification.policy.options.heartbeatTimeout else { return }
        heartbeat()
        setHeartbeatTimer(limit, limit)
    }

    private func setHeartbeatTimer(_ duration: Duration, _ limit: Duration) {
        let timer = owner.environment.clock.schedule(after: duration) { [weak self] in self?.checkHeartbeat(limit) }
        let isOver = state.withLock { state in
            state.extras.update { $0.heartbeats.update { $0.timer = timer } }
            return state.ladder.isFinished
        }
        if isOver { timer.cancel() }
    }

    private func checkHeartbeat(_ limit: Duration) {
        let silence =
            owner.environment.clock.now - state.withLock { $0.extras.value?.heartbeats.value?.last ?? .zero }
        if silence >= limit {
            handle(.crash(SupervisionError.unresponsive(child: path, after: silence)))
        } else {
            setHeartbeatTimer(limit - silence, limit)
        }
    }
}
