import DequeModule

/// Everything a supervisor decides, as a value: events in, effects out, no clock, no task, no actor.
///
/// It handles one operation at a time, as OTP's `gen_server` loop does: booting, restarting a group, shutting down. An exit
/// that arrives while an operation is under way waits in ``deferred`` for its turn, and is forgotten when the operation
/// itself stops that child. A shutdown does not wait: it overtakes a running start.
///
/// Each start of a child has a generation of its own. Events that name another generation than the child's are dropped:
/// that is the fence around incarnations that were abandoned.
struct SupervisorCore: Sendable {
    typealias Slot = ChildList<Record>.Slot

    /// What the supervisor was told to do, or learns.
    enum Event: Sendable {
        case boot
        /// The start closure returned an actor.
        case started(Slot, generation: UInt64)
        /// The start closure returned `nil`.
        case ignored(Slot, generation: UInt64)
        case startFailed(Slot, generation: UInt64, ExitReason)
        case exited(Slot, generation: UInt64, ExitReason)
        /// A restart that had been put off is due.
        case delayElapsed(Slot, generation: UInt64)
        /// End in order: children in reverse, then this supervisor with the reason.
        case stop(ExitReason)
        /// End at once: all children are killed, then this supervisor has been killed.
        case kill
    }

    /// What the shell has to do.
    enum Effect: Sendable {
        case start(Slot, generation: UInt64)
        case stop(Slot, generation: UInt64)
        case kill(Slot, generation: UInt64)
        case scheduleDelay(Slot, generation: UInt64, Duration)
        case cancelDelay(Slot)
        case report(Slot, Report)
        /// The child's specification and everything kept for it can be released.
        case forget(Slot, id: String)
        case booted
        /// The last effect of a supervisor's life.
        case finished(ExitReason)
    }

    /// What is worth telling an observer about one child.
    enum Report: Sendable {
        case started
        case ignored
        case exited(ExitReason, expected: Bool)
        case startFailed(ExitReason)
        case restarting(after: Duration)
        case coolingDown(Duration, ExitReason)
        case gaveUp(ExitReason)
        case stopped(ExitReason, expected: Bool)
    }

    /// The part of a child's specification that decisions depend on.
    struct Settings: Sendable {
        var id: String
        var restart: Restart = .permanent
        var shutdown: Shutdown = .timeout(.seconds(5))
        var isSignificant = false
        var backoff: Backoff?
    }

    enum Status: Sendable {
        /// No process; the specification is kept.
        case stopped
        case starting
        case running
        /// Ended; the exit waits for its turn.
        case down(ExitReason)
        case stopping
        /// To be started again: at once, when its turn comes, or after a delay.
        case restarting
    }

    struct Record: Sendable {
        var settings: Settings
        var status = Status.stopped
        var generation: UInt64 = 0
        var restarts = 0
        var lastExit: ExitReason?
        /// Failures in a row, for the backoff.
        var failures = 0
        var startedAt: Duration?
        var delay: PendingDelay?
    }

    struct PendingDelay: Sendable {
        var until: Duration
        var resetsIntensity: Bool
    }

    /// One thing at a time.
    struct Operation: Sendable {
        enum Purpose: Sendable {
            case boot
            case restart(Slot, after: Duration, resetsIntensity: Bool)
            case shutdown(ExitReason)
        }

        var purpose: Purpose
        /// In start order; stopped from the end.
        var stops: [Slot]
        /// The start order reversed; started from the end.
        var starts: [Slot]
        /// The child whose start or stop is under way.
        var waiting: Slot?
    }

    enum Deferred: Sendable {
        case exit(Slot, generation: UInt64)
        case retry(Slot, generation: UInt64, ExitReason)
        case delayElapsed(Slot, generation: UInt64)
    }

    enum Phase: Sendable, Equatable {
        case initial, booting, running, stopping, killing, finished
    }

    let name: String
    let strategy: Strategy
    let whenExceeded: WhenExceeded
    let autoShutdown: AutoShutdown
    private(set) var phase = Phase.initial
    private(set) var children = ChildList<Record>()
    private var window: RestartWindow
    private var operation: Operation?
    private var deferred = Deque<Deferred>()
    private var isServing = false
    private var pendingDelays = 0
    private var toBeKilled = 0
    private var lastGeneration: UInt64 = 0
    private var random: SplitMix64
    private var now = Duration.zero
    private var effects: [Effect] = []

    init(
        name: String,
        strategy: Strategy,
        intensity: RestartIntensity,
        whenExceeded: WhenExceeded,
        autoShutdown: AutoShutdown,
        seed: UInt64
    ) {
        self.name = name
        self.strategy = strategy
        self.whenExceeded = whenExceeded
        self.autoShutdown = autoShutdown
        window = RestartWindow(intensity)
        random = SplitMix64(seed: seed)
    }

    /// Adds a child to the end of the start order. `nil` when its id is taken.
    mutating func add(_ settings: Settings) -> Slot? {
        children.append(Record(settings: settings), id: settings.id)
    }

    /// Whether there is nothing under way: no operation, no restart that is pending.
    var isSettled: Bool {
        switch phase {
        case .initial, .finished: true
        case .running: operation == nil && deferred.isEmpty && pendingDelays == 0
        case .booting, .stopping, .killing: false
        }
    }

    mutating func handle(_ event: Event, at time: Duration) -> [Effect] {
        now = time
        switch event {
        case .boot: boot()
        case .started(let slot, let generation): started(slot, generation)
        case .ignored(let slot, let generation): ignored(slot, generation)
        case .startFailed(let slot, let generation, let reason): startFailed(slot, generation, reason)
        case .exited(let slot, let generation, let reason): exited(slot, generation, reason)
        case .delayElapsed(let slot, let generation): delayElapsed(slot, generation)
        case .stop(let reason): stop(reason)
        case .kill: kill()
        }
        defer { effects = [] }
        return effects
    }
}

// MARK: - Events

extension SupervisorCore {
    private mutating func boot() {
        guard phase == .initial else { return }
        phase = .booting
        operation = Operation(purpose: .boot, stops: [], starts: children.slots().reversed())
        advance()
    }

    private mutating func started(_ slot: Slot, _ generation: UInt64) {
        guard case .starting = status(slot, generation) else { return }
        children[slot]?.status = .running
        children[slot]?.startedAt = now
        effects.append(.report(slot, .started))
        startReturned(slot)
    }

    private mutating func ignored(_ slot: Slot, _ generation: UInt64) {
        switch status(slot, generation) {
        case .starting:
            effects.append(.report(slot, .ignored))
            settleStopped(slot)
            startReturned(slot)
        case .stopping: stopCompleted(slot, .shutdown())
        default: return
        }
    }

    private mutating func startFailed(_ slot: Slot, _ generation: UInt64, _ reason: ExitReason) {
        switch status(slot, generation) {
        case .starting:
            children[slot]?.lastExit = reason
            effects.append(.report(slot, .startFailed(reason)))
            guard let purpose = operation?.purpose else { return }
            switch purpose {
            case .boot:
                children[slot]?.status = .stopped
                let path = name + "/" + (children[slot]?.settings.id ?? "")
                beginShutdown(.shutdown(cause: SupervisionError.failedToStart(child: path, reason: reason)))
            case .restart:
                // Retried through the queue, so that whatever arrived meanwhile is served between the tries.
                children[slot]?.status = .restarting
                operation = nil
                deferred.append(.retry(slot, generation: generation, reason))
                serveDeferred()
            case .shutdown:
                children[slot]?.status = .stopped
                advance()
            }
        case .stopping: stopCompleted(slot, reason)
        default: return
        }
    }

    private mutating func exited(_ slot: Slot, _ generation: UInt64, _ reason: ExitReason) {
        switch status(slot, generation) {
        case .stopping:
            stopCompleted(slot, reason)
        case .running:
            children[slot]?.status = .down(reason)
            children[slot]?.lastExit = reason
            deferred.append(.exit(slot, generation: generation))
            if operation == nil { serveDeferred() }
        default: return
        }
    }

    private mutating func delayElapsed(_ slot: Slot, _ generation: UInt64) {
        guard case .restarting = status(slot, generation), children[slot]?.delay != nil else { return }
        deferred.append(.delayElapsed(slot, generation: generation))
        if operation == nil { serveDeferred() }
    }

    private mutating func stop(_ reason: ExitReason) {
        switch phase {
        case .initial:
            phase = .finished
            effects.append(.finished(reason))
        case .booting, .running: beginShutdown(reason)
        case .stopping, .killing, .finished: return
        }
    }

    private mutating func kill() {
        guard phase != .killing, phase != .finished else { return }
        phase = .killing
        operation = nil
        deferred.removeAll()
        for slot in children.slots() {
            cancelDelay(slot)
            guard let record = children[slot] else { continue }
            switch record.status {
            case .starting, .running, .stopping:
                children[slot]?.status = .stopping
                toBeKilled += 1
                effects.append(.kill(slot, generation: record.generation))
            case .down, .restarting, .stopped:
                children[slot]?.status = .stopped
            }
        }
        finishIfKilled()
    }
}

// MARK: - Operations

extension SupervisorCore {
    /// Does the next step of the operation, until something has to be waited for.
    private mutating func advance() {
        while operation != nil {
            if let slot = operation?.stops.popLast() {
                if beginStop(slot) { return }
            } else if case .restart(let slot, let delay, let resets) = operation?.purpose, delay > .zero {
                operation = nil
                putOff(slot, by: delay, resetsIntensity: resets)
            } else if let slot = operation?.starts.popLast() {
                if beginStart(slot) { return }
            } else if let purpose = operation?.purpose {
                operation = nil
                completed(purpose)
            }
        }
        serveDeferred()
    }

    /// True when the stop has to be waited for.
    private mutating func beginStop(_ slot: Slot) -> Bool {
        guard let record = children[slot] else { return false }
        switch record.status {
        case .running, .starting:
            children[slot]?.status = .stopping
            operation?.waiting = slot
            effects.append(.stop(slot, generation: record.generation))
            return true
        case .stopping:
            operation?.waiting = slot
            return true
        case .down(let reason):
            // It ended by itself just before: its true reason counts, the queued exit finds nothing (statements 29, 38).
            reportStopped(slot, reason)
            settleStopped(slot)
            return false
        case .restarting:
            cancelDelay(slot)
            settleStopped(slot)
            return false
        case .stopped:
            return false
        }
    }

    /// True when the start has to be waited for.
    private mutating func beginStart(_ slot: Slot) -> Bool {
        guard let record = children[slot] else { return false }
        switch record.status {
        case .running, .starting, .stopping, .down: return false
        case .stopped, .restarting: break
        }
        cancelDelay(slot)
        lastGeneration += 1
        if record.generation > 0 { children[slot]?.restarts += 1 }
        children[slot]?.generation = lastGeneration
        children[slot]?.status = .starting
        operation?.waiting = slot
        effects.append(.start(slot, generation: lastGeneration))
        return true
    }

    private mutating func startReturned(_ slot: Slot) {
        guard operation?.waiting == slot else { return }
        operation?.waiting = nil
        advance()
    }

    private mutating func stopCompleted(_ slot: Slot, _ reason: ExitReason) {
        children[slot]?.lastExit = reason
        reportStopped(slot, reason)
        settleStopped(slot)
        if phase == .killing {
            toBeKilled -= 1
            finishIfKilled()
        } else if operation?.waiting == slot {
            operation?.waiting = nil
            advance()
        }
    }

    private mutating func completed(_ purpose: Operation.Purpose) {
        switch purpose {
        case .boot:
            phase = .running
            effects.append(.booted)
        case .restart:
            break
        case .shutdown(let reason):
            phase = .finished
            deferred.removeAll()
            effects.append(.finished(reason))
        }
    }

    /// Shuts everything down, overtaking whatever is under way.
    private mutating func beginShutdown(_ reason: ExitReason) {
        phase = .stopping
        deferred.removeAll()
        operation = Operation(purpose: .shutdown(reason), stops: children.slots(), starts: [])
        advance()
    }

    private mutating func finishIfKilled() {
        guard toBeKilled == 0 else { return }
        phase = .finished
        effects.append(.finished(.killed))
    }

    /// Takes what waited, in order of arrival, until one of them begins an operation.
    private mutating func serveDeferred() {
        guard !isServing else { return }
        isServing = true
        defer { isServing = false }
        while operation == nil, phase == .running, let next = deferred.popFirst() {
            switch next {
            case .exit(let slot, let generation):
                guard case .down(let reason) = status(slot, generation) else { continue }
                childTerminated(slot, reason)
            case .retry(let slot, let generation, let reason):
                guard case .restarting = status(slot, generation) else { continue }
                restart(slot, reason)
            case .delayElapsed(let slot, let generation):
                guard case .restarting = status(slot, generation), let delay = children[slot]?.delay else { continue }
                if delay.resetsIntensity { window.reset() }
                cancelDelay(slot)
                beginGroupRestart(slot, after: .zero, resetsIntensity: false)
            }
        }
    }
}

// MARK: - Restarting

extension SupervisorCore {
    /// A child ended by itself (OTP's `do_restart/3`).
    private mutating func childTerminated(_ slot: Slot, _ reason: ExitReason) {
        guard let settings = children[slot]?.settings else { return }
        effects.append(.report(slot, .exited(reason, expected: !settings.restart.reports(reason))))
        if settings.restart.restarts(after: reason) {
            restart(slot, reason)
            return
        }
        settleStopped(slot)
        guard settings.isSignificant else { return }
        switch autoShutdown {
        case .never: return
        case .anySignificant: beginShutdown(.shutdown())
        case .allSignificant:
            let remains = children.slots().contains { other in
                guard let record = children[other], record.settings.isSignificant else { return false }
                if case .stopped = record.status { return false }
                return true
            }
            if !remains { beginShutdown(.shutdown()) }
        }
    }

    /// Counts the restart, and begins it, puts it off or gives up (OTP's `restart/2`).
    private mutating func restart(_ slot: Slot, _ reason: ExitReason) {
        var delay = backoffDelay(slot)
        var resetsIntensity = false
        if !window.add(at: now) {
            switch whenExceeded {
            case .escalate:
                giveUp(slot, reason)
                return
            case .cooldown(let pause):
                delay = max(delay, pause)
                resetsIntensity = true
                effects.append(.report(slot, .coolingDown(pause, reason)))
            }
        }
        children[slot]?.status = .restarting
        beginGroupRestart(slot, after: delay, resetsIntensity: resetsIntensity)
    }

    private mutating func giveUp(_ slot: Slot, _ reason: ExitReason) {
        let id = children[slot]?.settings.id ?? ""
        settleStopped(slot)
        effects.append(.report(slot, .gaveUp(reason)))
        beginShutdown(
            .shutdown(
                cause: SupervisionError.intensityExceeded(supervisor: name, child: name + "/" + id, lastReason: reason)
            )
        )
    }

    /// Stops what the strategy couples to the child; then, after the delay, starts the group.
    private mutating func beginGroupRestart(_ slot: Slot, after delay: Duration, resetsIntensity: Bool) {
        var delay = delay
        var resetsIntensity = resetsIntensity
        let group: [Slot] =
            switch strategy {
            case .oneForOne: [slot]
            case .oneForAll: children.slots()
            case .restForOne: children.slots(from: slot)
            }
        // A restart in the group that had been put off is taken over: together they wait for what remains of it.
        for other in group where other != slot {
            guard let pending = children[other]?.delay else { continue }
            delay = max(delay, pending.until - now)
            resetsIntensity = resetsIntensity || pending.resetsIntensity
        }
        effects.append(.report(slot, .restarting(after: delay)))
        operation = Operation(
            purpose: .restart(slot, after: delay, resetsIntensity: resetsIntensity),
            stops: group.filter { $0 != slot },
            // A temporary sibling is stopped and forgotten, never started again (statement 27).
            starts: group.reversed().filter { children[$0]?.settings.restart != .temporary }
        )
        advance()
    }

    private mutating func backoffDelay(_ slot: Slot) -> Duration {
        guard let record = children[slot], let backoff = record.settings.backoff else { return .zero }
        let wasHealthy = record.startedAt.map { now - $0 >= backoff.resetAfter } ?? false
        let failures = wasHealthy ? 1 : record.failures + 1
        children[slot]?.failures = failures
        children[slot]?.startedAt = nil
        return backoff.delay(afterFailures: failures, random: random.unit())
    }

    private mutating func putOff(_ slot: Slot, by delay: Duration, resetsIntensity: Bool) {
        guard let generation = children[slot]?.generation else { return }
        cancelDelay(slot)
        children[slot]?.delay = PendingDelay(until: now + delay, resetsIntensity: resetsIntensity)
        pendingDelays += 1
        effects.append(.scheduleDelay(slot, generation: generation, delay))
    }

    private mutating func cancelDelay(_ slot: Slot) {
        guard children[slot]?.delay != nil else { return }
        children[slot]?.delay = nil
        pendingDelays -= 1
        effects.append(.cancelDelay(slot))
    }
}

// MARK: - Records

extension SupervisorCore {
    /// The child's status, if the event that asks is of its current generation.
    private func status(_ slot: Slot, _ generation: UInt64) -> Status? {
        guard let record = children[slot], record.generation == generation else { return nil }
        return record.status
    }

    private mutating func reportStopped(_ slot: Slot, _ reason: ExitReason) {
        guard let settings = children[slot]?.settings else { return }
        let expected: Bool =
            switch reason {
            case .shutdown: true
            case .normal: settings.restart != .permanent
            case .killed: settings.shutdown == .brutalKill || phase == .killing
            case .crashed, .noProcess: false
            }
        effects.append(.report(slot, .stopped(reason, expected: expected)))
    }

    /// The child has no process any more. A temporary one is forgotten (statement 10).
    private mutating func settleStopped(_ slot: Slot) {
        guard let settings = children[slot]?.settings else { return }
        children[slot]?.status = .stopped
        guard settings.restart == .temporary else { return }
        children.remove(slot, id: settings.id)
        effects.append(.forget(slot, id: settings.id))
    }
}

/// A small seeded generator (Steele, Lea and Flood's SplitMix64), so that jitter is reproducible in tests.
struct SplitMix64: Sendable {
    private var state: UInt64

    init(seed: UInt64) {
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// A number in `0..<1`.
    mutating func unit() -> Double {
        Double(next() >> 11) * 0x1p-53
    }
}
