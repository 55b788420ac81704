import ConcurrencyPrimitives

/// The decisions of a dynamic supervisor, as a value: its children have no order and no id, and are started, restarted and stopped
/// concurrently (Elixir's `DynamicSupervisor`).
///
/// It uses the events and effects of ``SupervisorCore``. Unlike in OTP, a slow start delays neither other starts nor restarts.
struct DynamicCore: Sendable {
    typealias Slot = SupervisorCore.Slot
    typealias Record = SupervisorCore.Record
    typealias Effect = SupervisorCore.Effect

    private struct Entry: Sendable {
        var record: Record
        /// The request to answer when the start or stop that is under way completes; 0 for none.
        var request: UInt64 = 0
        /// Later requests for the same stop.
        var others: [UInt64] = []
        /// The child's own restart window, where each child has its own intensity.
        var window = BoxedOptional<RestartWindow>()
    }

    /// Which restarts are counted together.
    enum IntensityScope: Sendable {
        case allChildren
        /// Each child has its own intensity. `givesUp`: a child that exceeds it is removed, and the supervisor keeps running.
        case eachChild(givesUp: Bool)
    }

    let name: String
    let whenExceeded: WhenExceeded
    /// The maximum number of children, including those that are being restarted; `nil` for no limit.
    let maximumChildren: Int?
    private(set) var phase = SupervisorCore.Phase.initial
    private(set) var count = 0
    private var entries: [Entry?] = []
    private var free: [Slot] = []
    let scope: IntensityScope
    private let intensity: RestartIntensity
    private(set) var window: RestartWindow
    private var restarting = 0
    /// How many of the restarting children are waiting for a delay.
    private var delays = 0
    /// The number of children whose process is starting or stopping.
    private var inTransit = 0
    private var live = 0
    private var finalReason = ExitReason.shutdown()
    private var lastGeneration: UInt64 = 0
    private var lastDelay: UInt64 = 0
    private var random: SplitMix64
    private var now = Duration.zero
    private var effects: [Effect] = []

    init(
        name: String,
        intensity: RestartIntensity,
        whenExceeded: WhenExceeded,
        maximumChildren: Int?,
        scope: IntensityScope = .allChildren,
        seed: UInt64
    ) {
        self.name = name
        self.whenExceeded = whenExceeded
        self.maximumChildren = maximumChildren
        self.scope = scope
        self.intensity = intensity
        window = RestartWindow(intensity)
        random = SplitMix64(seed: seed)
    }

    var activity: SupervisorCore.Activity {
        switch phase {
        case .initial, .finished: .idle
        case .running:
            // A child that is restarting without a delay waits for its `retry` event.
            if inTransit > 0 || restarting > delays { .working } else { delays > 0 ? .delaying : .idle }
        case .booting, .stopping, .killing: .working
        }
    }

    /// The child's status, `nil` if the event belongs to an earlier generation.
    private mutating func status(_ slot: Slot, _ generation: UInt64) -> SupervisorCore.Status? {
        update(slot) { $0.record.generation == generation ? $0.record.status : nil } ?? nil
    }

    mutating func record(_ slot: Slot) -> Record? { update(slot) { $0.record } }

    /// Changes an entry in place, if there is one in this slot: an optional chain through the array would copy it.
    @discardableResult
    private mutating func update<Result>(_ slot: Slot, _ body: (inout Entry) -> Result) -> Result? {
        guard entries.indices.contains(slot) else { return nil }
        return entries[slot].update(body)
    }

    var slots: [Slot] { entries.indices.filter { entries[$0] != nil } }

    mutating func handle(_ event: SupervisorCore.Event, at time: Duration) -> [Effect] {
        var effects: [Effect] = []
        handle(event, at: time, &effects)
        return effects
    }

    /// Appends the effects of the event to `todo`.
    @discardableResult
    mutating func handle(
        _ event: SupervisorCore.Event,
        at time: Duration,
        _ todo: inout [Effect]
    ) -> SupervisorCore.Condition {
        now = time
        swap(&effects, &todo)
        handle(event)
        swap(&effects, &todo)
        return SupervisorCore.Condition(phase: phase, activity: activity)
    }

    private mutating func handle(_ event: SupervisorCore.Event) {
        switch event {
        case .boot:
            guard phase == .initial else { break }
            phase = .running
            effects.append(.booted)
        case .started(let slot, let generation): started(slot, generation)
        case .ignored(let slot, let generation): startEnded(slot, generation, failure: nil)
        case .startFailed(let slot, let generation, let reason): startEnded(slot, generation, failure: reason)
        case .exited(let slot, let generation, let reason): exited(slot, generation, reason)
        case .delayElapsed(let slot, let delay): delayElapsed(slot, delay)
        case .retry(let slot, let generation): retry(slot, generation)
        case .request(let id, let request): self.request(id, request)
        case .stop(let reason): stop(reason)
        case .kill: kill()
        }
    }
}

// MARK: - Requests

extension DynamicCore {
    private mutating func request(_ id: UInt64, _ request: SupervisorCore.Request) {
        guard phase == .running else {
            effects.append(.reply(id, .noProcess))
            return
        }
        switch request {
        case .startChild(let settings):
            if let maximumChildren, count >= maximumChildren {
                effects.append(.reply(id, .tooManyChildren))
                return
            }
            let slot = add(settings, for: id)
            effects.append(.adopt(slot, request: id))
            start(slot)
        case .terminateSlot(let slot, let generation): terminate(id, slot, generation)
        case .terminateChild, .restartChild, .deleteChild: effects.append(.reply(id, .notFound))
        }
    }

    private mutating func terminate(_ id: UInt64, _ slot: Slot, _ generation: UInt64) {
        guard let record = record(slot), record.generation == generation else {
            effects.append(.reply(id, .notFound))
            return
        }
        switch record.status {
        case .running, .starting:
            // An abandoned start fails the request that asked for it.
            if let asker = entries[slot]?.request, asker != 0 {
                effects.append(.reply(asker, .startFailed(.shutdown())))
            }
            beginStop(slot)
            entries[slot]?.request = id
        case .stopping:
            // Another request already waits for the stop. Both are answered when the child is down.
            if entries[slot]?.request == 0 { entries[slot]?.request = id } else { entries[slot]?.others.append(id) }
        case .restarting:
            remove(slot)
            effects.append(.reply(id, .done))
        case .stopped, .down:
            effects.append(.reply(id, .notFound))
        }
    }

    private mutating func add(_ settings: SupervisorCore.Settings, for request: UInt64) -> Slot {
        count += 1
        let entry = Entry(record: Record(settings: settings), request: request)
        if let slot = free.popLast() {
            entries[slot] = entry
            return slot
        }
        entries.append(entry)
        return entries.count - 1
    }

    private mutating func remove(_ slot: Slot) {
        cancelDelay(slot)
        guard entries.indices.contains(slot), let entry = entries[slot].take() else { return }
        if case .restarting = entry.record.status { restarting -= 1 }
        free.append(slot)
        count -= 1
        effects.append(.forget(slot, id: entry.record.settings.id))
    }
}

// MARK: - Starts and ends

extension DynamicCore {
    private mutating func start(_ slot: Slot) {
        lastGeneration += 1
        let wasRestarting =
            update(slot) { [lastGeneration] entry in
                if entry.record.generation != 0 { entry.record.restarts += 1 }
                entry.record.generation = lastGeneration
                defer { entry.record.status = .starting }
                if case .restarting = entry.record.status { return true }
                return false
            } ?? false
        if wasRestarting { restarting -= 1 }
        inTransit += 1
        live += 1
        effects.append(.start(slot, generation: lastGeneration))
    }

    private mutating func started(_ slot: Slot, _ generation: UInt64) {
        let isUp =
            update(slot) { [now] entry in
                guard entry.record.generation == generation, case .starting = entry.record.status else { return false }
                entry.record.status = .running
                entry.record.startedAt = now
                return true
            } ?? false
        guard isUp else { return }
        inTransit -= 1
        effects.append(.report(slot, .started))
        answer(slot, .started(slot))
    }

    private mutating func startEnded(_ slot: Slot, _ generation: UInt64, failure: ExitReason?) {
        switch status(slot, generation) {
        case .stopping: stopped(slot, failure ?? .normal)
        case .starting:
            inTransit -= 1
            live -= 1
            entries[slot]?.record.lastExit = failure ?? .normal
            guard let failure else {
                effects.append(.report(slot, .ignored))
                answer(slot, .ignored)
                return remove(slot)
            }
            effects.append(.report(slot, .startFailed(failure)))
            if entries[slot]?.request != 0 {
                answer(slot, .startFailed(failure))
                remove(slot)
            } else {
                markRestarting(slot)
                // Retried through the mailbox, so that events that arrived in the meantime are handled between attempts (statement 54).
                effects.append(.retry(slot, generation: generation))
            }
        case .stopped, .running, .down, .restarting, nil: return
        }
    }

    private mutating func exited(_ slot: Slot, _ generation: UInt64, _ reason: ExitReason) {
        switch status(slot, generation) {
        case .stopping: stopped(slot, reason)
        case .running:
            live -= 1
            guard let restart = update(slot, { $0.record.settings.restart }) else { return }
            effects.append(.report(slot, .exited(reason, expected: !restart.reports(reason))))
            guard restart.restarts(after: reason) else { return remove(slot) }
            entries[slot]?.record.lastExit = reason
            markRestarting(slot)
            self.restart(slot, reason)
        case .stopped, .starting, .down, .restarting, nil: return
        }
    }

    private mutating func stopped(_ slot: Slot, _ reason: ExitReason) {
        guard let settings = update(slot, { $0.record.settings }) else { return }
        let expected: Bool =
            switch reason {
            // A dynamic supervisor treats any shutdown reason as expected (statement 40).
            case .shutdown: true
            case .normal: settings.restart.isEndInOrder
            case .killed: settings.shutdown.isKill || phase == .killing
            case .crashed, .noProcess: false
            }
        inTransit -= 1
        live -= 1
        effects.append(.report(slot, .stopped(reason, expected: expected)))
        answer(slot, .done)
        remove(slot)
        finishIfEmpty()
    }

    private mutating func answer(_ slot: Slot, _ reply: SupervisorCore.Reply) {
        let askers = update(slot) { entry -> (first: UInt64, others: [UInt64]) in
            defer {
                entry.request = 0
                if !entry.others.isEmpty { entry.others = [] }
            }
            return (entry.request, entry.others)
        }
        guard let askers, askers.first != 0 else { return }
        effects.append(.reply(askers.first, reply))
        for other in askers.others { effects.append(.reply(other, reply)) }
    }

    private mutating func markRestarting(_ slot: Slot) {
        entries[slot]?.record.status = .restarting
        restarting += 1
    }
}

// MARK: - Restarting

extension DynamicCore {
    private mutating func restart(_ slot: Slot, _ reason: ExitReason) {
        var delay = Duration.zero
        if let record = record(slot), let backoff = record.settings.backoff {
            let failures = record.failuresIncludingThis(at: now, backoff)
            entries[slot]?.record.failures = failures
            entries[slot]?.record.startedAt = nil
            delay = backoff.delay(afterFailures: failures, random: random.unit())
        }
        var resets = false
        if !countRestart(slot) {
            switch whenExceeded {
            case .escalate:
                effects.append(.report(slot, .gaveUp(reason)))
                if case .eachChild(givesUp: true) = scope { return remove(slot) }
                let cause = SupervisionError.intensityExceeded(
                    supervisor: name,
                    child: record(slot)?.settings.id ?? "",
                    lastReason: reason
                )
                remove(slot)
                stop(.shutdown(cause: cause))
                return
            case .cooldown(let cooldown):
                let pause = cooldown.clamped
                delay = max(delay, pause)
                resets = true
                effects.append(.report(slot, .coolingDown(pause, reason)))
            }
        }
        effects.append(.report(slot, .restarting(after: delay)))
        guard delay > .zero else { return start(slot) }
        lastDelay += 1
        delays += 1
        entries[slot]?.record.delay = SupervisorCore.PendingDelay(
            until: now + delay,
            resetsIntensity: resets,
            number: lastDelay
        )
        effects.append(.scheduleDelay(slot, delay: lastDelay, delay))
    }

    /// Counts a restart; false when the intensity is exceeded.
    private mutating func countRestart(_ slot: Slot) -> Bool {
        switch scope {
        case .allChildren: window.add(at: now)
        case .eachChild:
            entries[slot]?.window.update(orMake: RestartWindow(intensity)) { $0.add(at: now) } ?? false
        }
    }

    private mutating func resetIntensity(_ slot: Slot) {
        switch scope {
        case .allChildren: window.reset()
        case .eachChild: entries[slot]?.window.value = nil
        }
    }

    private mutating func delayElapsed(_ slot: Slot, _ number: UInt64) {
        guard let delay = record(slot)?.delay, delay.number == number else { return }
        if delay.resetsIntensity { resetIntensity(slot) }
        cancelDelay(slot)
        start(slot)
    }

    private mutating func retry(_ slot: Slot, _ generation: UInt64) {
        guard let record = record(slot), record.generation == generation, case .restarting = record.status,
            record.delay == nil
        else { return }
        restart(slot, record.lastExit ?? .noProcess)
    }

    private mutating func cancelDelay(_ slot: Slot) {
        let hadDelay =
            update(slot) { entry in
                guard entry.record.delay != nil else { return false }
                entry.record.delay = nil
                return true
            } ?? false
        guard hadDelay else { return }
        delays -= 1
        effects.append(.cancelDelay(slot))
    }
}

// MARK: - End

extension DynamicCore {
    /// Stops all children concurrently: it takes as long as the slowest child (statement 39).
    private mutating func stop(_ reason: ExitReason) {
        switch phase {
        case .stopping, .killing, .finished: return
        case .initial:
            phase = .finished
            effects.append(.finished(reason))
            return
        case .booting, .running: break
        }
        phase = .stopping
        finalReason = reason
        for slot in slots {
            switch record(slot)?.status {
            case .running, .starting:
                answer(slot, .noProcess)
                beginStop(slot)
            case .restarting, .stopped, .down: remove(slot)
            case .stopping, nil: continue
            }
        }
        finishIfEmpty()
    }

    private mutating func kill() {
        guard phase != .killing, phase != .finished else { return }
        phase = .killing
        finalReason = .killed
        for slot in slots {
            guard let record = record(slot) else { continue }
            answer(slot, .noProcess)
            switch record.status {
            case .running, .starting, .stopping:
                if case .running = record.status { inTransit += 1 }
                entries[slot]?.record.status = .stopping
                effects.append(.kill(slot, generation: record.generation))
            case .restarting, .stopped, .down: remove(slot)
            }
        }
        finishIfEmpty()
    }

    private mutating func beginStop(_ slot: Slot) {
        let stopped = update(slot) { entry -> (wasRunning: Bool, generation: UInt64) in
            defer { entry.record.status = .stopping }
            if case .running = entry.record.status { return (true, entry.record.generation) }
            return (false, entry.record.generation)
        }
        guard let stopped else { return }
        if stopped.wasRunning { inTransit += 1 }
        effects.append(.stop(slot, generation: stopped.generation))
    }

    private mutating func finishIfEmpty() {
        guard phase == .stopping || phase == .killing, live == 0 else { return }
        phase = .finished
        effects.append(.finished(finalReason))
    }
}
