import ConcurrencyPrimitives
import DequeModule

/// All decisions of a supervisor, as a value: events in, effects out, with no clock, task or actor.
///
/// It runs one operation at a time, as OTP's `gen_server` loop does: boot, restart a group, shut down. An exit that arrives during an
/// operation waits in ``deferred``, and is discarded if the operation itself stops that child. A shutdown does not wait: it interrupts a
/// running start.
///
/// Each start of a child has its own generation. Events with another generation than the child's current one are dropped, which fences off
/// abandoned incarnations.
struct SupervisorCore: Sendable {
    typealias Slot = ChildList<Record>.Slot

    /// A command to the supervisor, or news from a child.
    enum Event: Sendable {
        case boot
        /// The start closure returned an actor.
        case started(Slot, generation: UInt64)
        /// The start closure returned `nil`.
        case ignored(Slot, generation: UInt64)
        case startFailed(Slot, generation: UInt64, ExitReason)
        case exited(Slot, generation: UInt64, ExitReason)
        /// The delay with this number has elapsed, and its restart is due.
        case delayElapsed(Slot, delay: UInt64)
        /// Sent in response to ``Effect/retry(_:generation:)``.
        case retry(Slot, generation: UInt64)
        /// An administrative call; answered by one ``Effect/reply(_:_:)``.
        case request(UInt64, Request)
        /// Shut down: stop the children in reverse order, then exit with the reason.
        case stop(ExitReason)
        /// Kill all children, then exit as killed.
        case kill
    }

    /// The OTP calls that change children at run time.
    enum Request: Sendable {
        case startChild(Settings)
        /// Stops one incarnation of a dynamic child.
        case terminateSlot(Slot, generation: UInt64)
        case terminateChild(id: String)
        case restartChild(id: String)
        case deleteChild(id: String)
    }

    enum Reply: Sendable {
        case done
        case started(Slot)
        case ignored
        case alreadyStarted(Slot)
        case alreadyPresent
        case tooManyChildren
        case notFound
        case running
        case restarting
        case startFailed(ExitReason)
        /// The supervisor is shutting down.
        case noProcess
        /// The caller stopped waiting. Only the shell sends this, never a core.
        case cancelled
    }

    /// An action for the shell to carry out.
    enum Effect: Sendable {
        case start(Slot, generation: UInt64)
        case stop(Slot, generation: UInt64)
        case kill(Slot, generation: UInt64)
        /// Send ``Event/delayElapsed(_:delay:)`` after the duration. Numbers are never reused, so that a cancelled delay that fires late is
        /// not mistaken for a later one.
        case scheduleDelay(Slot, delay: UInt64, Duration)
        case cancelDelay(Slot)
        /// Send ``Event/retry(_:generation:)`` back through the mailbox, behind the events that wait there.
        case retry(Slot, generation: UInt64)
        case report(Slot, Report)
        /// The child added by this request gets this slot.
        case adopt(Slot, request: UInt64)
        case reply(UInt64, Reply)
        /// The child's specification and everything kept for it can be released.
        case forget(Slot, id: String)
        case booted
        /// The supervisor has ended. No effect follows.
        case finished(ExitReason)
    }

    /// Something about one child that observers may want to know.
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

    /// The part of a child's specification that decisions depend on. An immutable object, so that it is shared rather than copied.
    class Settings: @unchecked Sendable {
        // Sendable: everything stored here and in the one subclass, ``ChildSpecification``, is immutable and `Sendable`.
        let id: String
        let policy: ChildPolicy

        init(id: String, policy: ChildPolicy) {
            self.id = id
            self.policy = policy
        }

        var restart: Restart { policy.restart }
        var shutdown: Shutdown { policy.options.shutdown }
        var isSignificant: Bool { policy.options.significant }
        var backoff: Backoff? { policy.options.backoff }
    }

    enum Status: Sendable {
        /// There is no process; the specification is kept.
        case stopped
        case starting
        case running
        /// The process has ended; the exit waits to be handled.
        case down(ExitReason)
        case stopping
        /// To be restarted: immediately, in its turn, or after a delay.
        case restarting
    }

    /// The state of one child. Kept small, because there may be very many; state that only a failed child needs is stored separately.
    struct Record: Sendable {
        private struct Past: Sendable {
            var restarts = 0
            var lastExit: ExitReason?
            var failures = 0
            var delay: PendingDelay?
        }

        let settings: Settings
        var status = Status.stopped
        var generation: UInt64 = 0
        private var past = BoxedOptional<Past>()
        private var startedAtNanoseconds = Int64.min

        init(settings: Settings) {
            self.settings = settings
        }

        var restarts: Int {
            get { past.value?.restarts ?? 0 }
            set { past.update(orMake: Past()) { $0.restarts = newValue } }
        }

        mutating func noteRestart(after reason: ExitReason) {
            past.update(orMake: Past()) { past in
                past.restarts += 1
                past.lastExit = reason
            }
        }

        var lastExit: ExitReason? {
            get { past.value?.lastExit }
            set { past.update(orMake: Past()) { $0.lastExit = newValue } }
        }

        /// Consecutive failures, for the backoff.
        var failures: Int {
            get { past.value?.failures ?? 0 }
            set { past.update(orMake: Past()) { $0.failures = newValue } }
        }

        var delay: PendingDelay? {
            get { past.value?.delay }
            set {
                if newValue == nil {
                    past.update { $0.delay = nil }
                } else {
                    past.update(orMake: Past()) { $0.delay = newValue }
                }
            }
        }

        var startedAt: Duration? {
            get { startedAtNanoseconds == .min ? nil : .nanoseconds(startedAtNanoseconds) }
            set { startedAtNanoseconds = newValue?.wholeNanoseconds ?? .min }
        }

        /// The number of consecutive failures including this one; it starts again at one after an incarnation that lived for the backoff's
        /// `resetAfter`.
        func failuresIncludingThis(at now: Duration, _ backoff: Backoff) -> Int {
            let wasHealthy = startedAt.map { now - $0 >= backoff.resetAfter } ?? false
            return wasHealthy ? 1 : failures + 1
        }
    }

    struct PendingDelay: Sendable {
        var until: Duration
        var resetsIntensity: Bool
        var number: UInt64
    }

    /// The operation under way. There is at most one.
    private struct Operation: Sendable {
        enum Purpose: Sendable {
            case boot
            case restart(Slot, after: Duration, resetsIntensity: Bool)
            case startChild(UInt64, Slot)
            case restartChild(UInt64, Slot)
            case terminateChild(UInt64)
            case shutdown(ExitReason)
        }

        var purpose: Purpose
        /// Children to stop, in start order; taken from the end.
        var stops: [Slot]
        /// Children to start, in reverse start order; taken from the end.
        var starts: [Slot]
        /// The child whose start or stop is being waited for.
        var waiting: Slot?
    }

    private enum Deferred: Sendable {
        case exit(Slot, generation: UInt64)
        /// By id, as in OTP: if a group restart overtakes the first of two retries and fails again, the later failure counts.
        case retry(id: String)
        case delayElapsed(Slot, delay: UInt64)
        case request(UInt64, Request)
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
    private(set) var window: RestartWindow
    private var operation: Operation?
    private var deferred = Deque<Deferred>()
    private var isServing = false
    private var pendingDelays = 0
    private var toBeKilled = 0
    private var lastGeneration: UInt64 = 0
    private var lastDelay: UInt64 = 0
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

    /// Adds a child at the end of the start order. Returns `nil` when its id is taken.
    mutating func add(_ settings: Settings) -> Slot? {
        children.append(Record(settings: settings), id: settings.id)
    }

    /// What a supervisor is doing between two events.
    enum Activity: Sendable {
        case idle
        /// Only waiting for the delay of a restart.
        case delaying
        /// An operation is under way.
        case working
    }

    /// What the shell needs to know after each event.
    struct Condition: Sendable {
        var phase: Phase
        var activity: Activity
    }

    mutating func record(_ slot: Slot) -> Record? { children.update(slot) { $0 } }

    var activity: Activity {
        switch phase {
        case .initial, .finished: .idle
        case .running:
            if operation != nil || !deferred.isEmpty { .working } else { pendingDelays > 0 ? .delaying : .idle }
        case .booting, .stopping, .killing: .working
        }
    }

    mutating func handle(_ event: Event, at time: Duration) -> [Effect] {
        var effects: [Effect] = []
        handle(event, at: time, &effects)
        return effects
    }

    /// Appends the effects of the event to `todo`.
    @discardableResult
    mutating func handle(_ event: Event, at time: Duration, _ todo: inout [Effect]) -> Condition {
        if handleDirectly(event, at: time, &todo) { return Condition(phase: phase, activity: activity) }
        return handleGenerally(event, at: time, &todo)
    }

    /// Decides like ``handle(_:at:_:)``, without the direct path.
    @discardableResult
    mutating func handleGenerally(_ event: Event, at time: Duration, _ todo: inout [Effect]) -> Condition {
        decide(event, at: time, &todo)
        return Condition(phase: phase, activity: activity)
    }

    private mutating func decide(_ event: Event, at time: Duration, _ todo: inout [Effect]) {
        now = time
        swap(&effects, &todo)
        defer { swap(&effects, &todo) }
        switch event {
        case .boot: boot()
        case .started(let slot, let generation): started(slot, generation)
        case .ignored(let slot, let generation): ignored(slot, generation)
        case .startFailed(let slot, let generation, let reason): startFailed(slot, generation, reason)
        case .exited(let slot, let generation, let reason): exited(slot, generation, reason)
        case .delayElapsed(let slot, let delay): delayElapsed(slot, delay)
        // An ordered supervisor retries through `deferred`.
        case .retry: break
        case .request(let id, let request): self.request(id, request)
        case .stop(let reason): stop(reason)
        case .kill: kill()
        }
    }
}

// MARK: - The direct path

extension SupervisorCore {
    /// Decides the most frequent case in one step: with nothing else under way, a child of a one-for-one supervisor ends, is restarted
    /// immediately, and is running again. Returns false and changes nothing in all other cases.
    ///
    /// The general path makes the same decisions and leaves the same state; a test compares both with random events.
    mutating func handleDirectly(_ event: Event, at time: Duration, _ todo: inout [Effect]) -> Bool {
        guard case .running = phase, !isServing, deferred.isEmpty else { return false }
        switch event {
        case .exited(let slot, let generation, let reason):
            guard case .oneForOne = strategy, operation == nil else { return false }
            return restartDirectly(slot, generation, reason, at: time, &todo)
        case .started(let slot, let generation):
            guard let operation, operation.waiting == slot, operation.stops.isEmpty, operation.starts.isEmpty,
                case .restart = operation.purpose
            else { return false }
            let isUp =
                children.update(slot) { record in
                    guard record.generation == generation, case .starting = record.status else { return false }
                    record.status = .running
                    record.startedAt = time
                    return true
                } ?? false
            guard isUp else { return false }
            now = time
            self.operation = nil
            todo.append(.report(slot, .started))
            return true
        case .boot, .ignored, .startFailed, .delayElapsed, .retry, .request, .stop, .kill: return false
        }
    }

    private mutating func restartDirectly(
        _ slot: Slot,
        _ generation: UInt64,
        _ reason: ExitReason,
        at time: Duration,
        _ todo: inout [Effect]
    ) -> Bool {
        guard case .running = status(slot, generation), let settings = children[slot]?.settings,
            settings.backoff == nil, settings.restart.restarts(after: reason),
            // If the intensity is exceeded, the general path counts the restart and refuses it again.
            window.add(at: time)
        else { return false }
        now = time
        lastGeneration += 1
        let next = lastGeneration
        children.update(slot) { record in
            record.noteRestart(after: reason)
            record.generation = next
            record.status = .starting
        }
        operation = Operation(
            purpose: .restart(slot, after: .zero, resetsIntensity: false),
            stops: [],
            starts: [],
            waiting: slot
        )
        todo.append(.report(slot, .exited(reason, expected: !settings.restart.reports(reason))))
        todo.append(.report(slot, .restarting(after: .zero)))
        todo.append(.start(slot, generation: next))
        return true
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
            ignoredStart(slot)
        case .stopping: stopCompleted(slot, .shutdown())
        case .stopped, .running, .down, .restarting, nil: return
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
            case .restart(let failed, _, _):
                // The retry belongs to this child. The one that failed first is now only a member of the group to start.
                if failed != slot, case .restarting = children[failed]?.status { children[failed]?.status = .stopped }
                // Retried through the queue, so that events that arrived in the meantime are handled between attempts.
                children[slot]?.status = .restarting
                operation = nil
                if let id = children[slot]?.settings.id { deferred.append(.retry(id: id)) }
                serveDeferred()
            case .startChild(let request, _):
                operation = nil
                children[slot]?.status = .stopped
                forget(slot)
                effects.append(.reply(request, .startFailed(reason)))
                serveDeferred()
            case .restartChild(let request, _):
                operation = nil
                children[slot]?.status = .stopped
                effects.append(.reply(request, .startFailed(reason)))
                serveDeferred()
            case .shutdown, .terminateChild:
                children[slot]?.status = .stopped
                advance()
            }
        case .stopping: stopCompleted(slot, reason)
        case .stopped, .running, .down, .restarting, nil: return
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
        case .stopped, .starting, .down, .restarting, nil: return
        }
    }

    private mutating func delayElapsed(_ slot: Slot, _ delay: UInt64) {
        guard children[slot]?.delay?.number == delay else { return }
        deferred.append(.delayElapsed(slot, delay: delay))
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
        dropRequests()
        operation = nil
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

// MARK: - Requests

extension SupervisorCore {
    private mutating func request(_ id: UInt64, _ request: Request) {
        switch phase {
        case .stopping, .killing, .finished: effects.append(.reply(id, .noProcess))
        case .initial, .booting, .running:
            deferred.append(.request(id, request))
            if operation == nil { serveDeferred() }
        }
    }

    private mutating func serve(_ id: UInt64, _ request: Request) {
        switch request {
        case .startChild(let settings): startChild(id, settings)
        case .terminateChild(let child): terminateChild(id, child)
        case .restartChild(let child): restartChild(id, child)
        case .deleteChild(let child): deleteChild(id, child)
        case .terminateSlot: effects.append(.reply(id, .notFound))
        }
    }

    private mutating func startChild(_ id: UInt64, _ settings: Settings) {
        if let slot = children.slot(of: settings.id) {
            switch children[slot]?.status {
            case .stopped, .restarting: effects.append(.reply(id, .alreadyPresent))
            case .starting, .running, .down, .stopping, nil: effects.append(.reply(id, .alreadyStarted(slot)))
            }
            return
        }
        guard let slot = add(settings) else { return }
        effects.append(.adopt(slot, request: id))
        operation = Operation(purpose: .startChild(id, slot), stops: [], starts: [slot])
        advance()
    }

    private mutating func restartChild(_ id: UInt64, _ child: String) {
        guard let slot = children.slot(of: child), let status = children[slot]?.status else {
            effects.append(.reply(id, .notFound))
            return
        }
        switch status {
        case .starting, .running, .down, .stopping: effects.append(.reply(id, .running))
        case .restarting: effects.append(.reply(id, .restarting))
        case .stopped:
            operation = Operation(purpose: .restartChild(id, slot), stops: [], starts: [slot])
            advance()
        }
    }

    /// Stops a child without restarting it. A pending retry is withdrawn; siblings that waited for it stay down until they are started by
    /// hand, as in OTP.
    private mutating func terminateChild(_ id: UInt64, _ child: String) {
        guard let slot = children.slot(of: child) else {
            effects.append(.reply(id, .notFound))
            return
        }
        operation = Operation(purpose: .terminateChild(id), stops: [slot], starts: [])
        advance()
    }

    private mutating func deleteChild(_ id: UInt64, _ child: String) {
        guard let slot = children.slot(of: child), let status = children[slot]?.status else {
            effects.append(.reply(id, .notFound))
            return
        }
        switch status {
        case .starting, .running, .down, .stopping: effects.append(.reply(id, .running))
        case .restarting: effects.append(.reply(id, .restarting))
        case .stopped:
            forget(slot)
            effects.append(.reply(id, .done))
        }
    }

    private mutating func ignoredStart(_ slot: Slot) {
        settleStopped(slot)
        switch operation?.purpose {
        case .startChild(let request, _), .restartChild(let request, _):
            operation = nil
            effects.append(.reply(request, .ignored))
            serveDeferred()
        case .boot, .restart, .terminateChild, .shutdown, nil: startReturned(slot)
        }
    }
}

// MARK: - Operations

extension SupervisorCore {
    /// Performs the operation's next steps until one has to be waited for.
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

    /// Begins to stop a child. True when the stop has to be waited for.
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
            // The child ended by itself just before: its actual reason counts, and the queued exit is ignored (statements 29, 38).
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

    /// Begins to start a child. True when the start has to be waited for.
    private mutating func beginStart(_ slot: Slot) -> Bool {
        switch children[slot]?.status {
        case .running, .starting, .stopping, .down, nil: return false
        case .stopped, .restarting: break
        }
        cancelDelay(slot)
        lastGeneration += 1
        if children[slot]?.generation != 0 { children[slot]?.restarts += 1 }
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
        case .startChild(let request, let slot), .restartChild(let request, let slot):
            effects.append(.reply(request, .started(slot)))
        case .terminateChild(let request):
            effects.append(.reply(request, .done))
        case .shutdown(let reason):
            phase = .finished
            effects.append(.finished(reason))
        }
    }

    /// Shuts everything down, interrupting the operation under way.
    private mutating func beginShutdown(_ reason: ExitReason) {
        phase = .stopping
        dropRequests()
        operation = Operation(purpose: .shutdown(reason), stops: children.slots(), starts: [])
        advance()
    }

    private mutating func finishIfKilled() {
        guard toBeKilled == 0 else { return }
        phase = .finished
        effects.append(.finished(.killed))
    }

    /// Handles deferred events in order of arrival until one of them begins an operation.
    private mutating func serveDeferred() {
        guard !isServing else { return }
        isServing = true
        defer { isServing = false }
        while operation == nil, phase == .running, let next = deferred.popFirst() {
            switch next {
            case .exit(let slot, let generation):
                guard case .down(let reason) = status(slot, generation) else { continue }
                childTerminated(slot, reason)
            case .retry(let id):
                guard let slot = children.slot(of: id), let record = children[slot], case .restarting = record.status,
                    record.delay == nil
                else { continue }
                restart(slot, record.lastExit ?? .killed)
            case .delayElapsed(let slot, let number):
                guard let delay = children[slot]?.delay, delay.number == number else { continue }
                if delay.resetsIntensity { window.reset() }
                cancelDelay(slot)
                beginGroupRestart(slot, after: .zero, resetsIntensity: false)
            case .request(let id, let request): serve(id, request)
            }
        }
    }

    /// A supervisor that is shutting down fails waiting requests immediately.
    private mutating func dropRequests() {
        switch operation?.purpose {
        case .startChild(let request, _), .restartChild(let request, _), .terminateChild(let request):
            effects.append(.reply(request, .noProcess))
        case .boot, .restart, .shutdown, nil: break
        }
        for case .request(let id, _) in deferred { effects.append(.reply(id, .noProcess)) }
        deferred.removeAll()
    }
}

// MARK: - Restarts

extension SupervisorCore {
    /// Handles the exit of a child that ended by itself (OTP's `do_restart/3`).
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

    /// Counts the restart, then begins it, delays it or gives up (OTP's `restart/2`).
    private mutating func restart(_ slot: Slot, _ reason: ExitReason) {
        var delay = backoffDelay(slot)
        var resetsIntensity = false
        if !window.add(at: now) {
            switch whenExceeded {
            case .escalate:
                giveUp(slot, reason)
                return
            case .cooldown(let cooldown):
                let pause = cooldown.clamped
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

    /// Stops the siblings that the strategy couples to the child; then, after the delay, starts the group.
    private mutating func beginGroupRestart(_ slot: Slot, after delay: Duration, resetsIntensity: Bool) {
        var delay = delay
        var resetsIntensity = resetsIntensity
        let group: [Slot]
        switch strategy {
        case .oneForOne:
            effects.append(.report(slot, .restarting(after: delay)))
            operation = Operation(
                purpose: .restart(slot, after: delay, resetsIntensity: resetsIntensity),
                stops: [],
                starts: [slot]
            )
            return advance()
        case .oneForAll: group = children.slots()
        case .restForOne: group = children.slots(from: slot)
        }
        // The group takes over a delayed restart of a member: all wait for the rest of that delay.
        for other in group where other != slot {
            guard let pending = children[other]?.delay else { continue }
            delay = max(delay, pending.until - now)
            resetsIntensity = resetsIntensity || pending.resetsIntensity
        }
        effects.append(.report(slot, .restarting(after: delay)))
        operation = Operation(
            purpose: .restart(slot, after: delay, resetsIntensity: resetsIntensity),
            stops: group.filter { $0 != slot },
            // A temporary sibling is stopped and removed, never restarted (statement 27).
            starts: group.reversed().filter { children[$0]?.settings.restart.keepsSpecification == true }
        )
        advance()
    }

    private mutating func backoffDelay(_ slot: Slot) -> Duration {
        guard let record = children[slot], let backoff = record.settings.backoff else { return .zero }
        let failures = record.failuresIncludingThis(at: now, backoff)
        children[slot]?.failures = failures
        children[slot]?.startedAt = nil
        return backoff.delay(afterFailures: failures, random: random.unit())
    }

    private mutating func putOff(_ slot: Slot, by delay: Duration, resetsIntensity: Bool) {
        guard children[slot] != nil else { return }
        cancelDelay(slot)
        lastDelay += 1
        children[slot]?.delay = PendingDelay(until: now + delay, resetsIntensity: resetsIntensity, number: lastDelay)
        pendingDelays += 1
        effects.append(.scheduleDelay(slot, delay: lastDelay, delay))
    }

    private mutating func cancelDelay(_ slot: Slot) {
        guard children[slot]?.delay != nil else { return }
        children[slot]?.delay = nil
        pendingDelays -= 1
        effects.append(.cancelDelay(slot))
    }
}

extension SupervisorCore {
    /// Whether a stopped child will be started: by the operation under way, or by a delayed or pending retry of a group restart that
    /// includes it.
    func isAboutToStart(_ slot: Slot) -> Bool {
        guard phase == .booting || phase == .running else { return false }
        if operation?.starts.contains(slot) == true { return true }
        let others: [Slot]
        switch strategy {
        case .oneForOne: return false
        case .oneForAll: others = children.slots()
        case .restForOne: others = Array(children.slots().prefix { $0 != slot })
        }
        return others.contains { if case .restarting = children[$0]?.status { true } else { false } }
    }
}

// MARK: - The children

extension SupervisorCore {
    /// The child's status, `nil` if the event belongs to an earlier generation.
    private func status(_ slot: Slot, _ generation: UInt64) -> Status? {
        guard children[slot]?.generation == generation else { return nil }
        return children[slot]?.status
    }

    private mutating func reportStopped(_ slot: Slot, _ reason: ExitReason) {
        guard let settings = children[slot]?.settings else { return }
        let expected: Bool =
            switch reason {
            // A cause set by the supervisor itself counts as OTP's bare `shutdown`.
            case .shutdown(let cause) where cause == nil || cause is SupervisionError:
                !settings.shutdown.isKill || settings.restart.isEndInOrder
            case .shutdown, .normal: settings.restart.isEndInOrder
            case .killed: settings.shutdown.isKill || phase == .killing
            case .crashed, .noProcess: false
            }
        effects.append(.report(slot, .stopped(reason, expected: expected)))
    }

    /// The child has no process any more. A temporary child is removed (statement 10).
    private mutating func settleStopped(_ slot: Slot) {
        guard let settings = children[slot]?.settings else { return }
        children[slot]?.status = .stopped
        if !settings.restart.keepsSpecification { forget(slot) }
    }

    private mutating func forget(_ slot: Slot) {
        guard let id = children[slot]?.settings.id else { return }
        cancelDelay(slot)
        children.remove(slot, id: id)
        effects.append(.forget(slot, id: id))
    }
}

extension SupervisorCore {
    /// The reason the supervisor is shutting down for, `nil` while it is not.
    var endingReason: ExitReason? {
        switch phase {
        case .killing: return .killed
        case .stopping:
            if case .shutdown(let reason) = operation?.purpose { return reason }
            return .shutdown()
        case .initial, .booting, .running, .finished: return nil
        }
    }
}
