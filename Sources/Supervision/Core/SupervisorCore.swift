import ConcurrencyPrimitives
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
        /// A restart that had been put off is due: the delay of this number is over.
        case delayElapsed(Slot, delay: UInt64)
        /// What ``Effect/retry(_:generation:)`` asked for.
        case retry(Slot, generation: UInt64)
        /// An administrative call; answered with one ``Effect/reply(_:_:)``.
        case request(UInt64, Request)
        /// End in order: children in reverse, then this supervisor with the reason.
        case stop(ExitReason)
        /// End at once: all children are killed, then this supervisor has been killed.
        case kill
    }

    /// OTP's calls that change the children at run time.
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
        /// The supervisor is ending.
        case noProcess
        /// The caller does not wait any more. Replied by the shell, never by a core.
        case cancelled
    }

    /// What the shell has to do.
    enum Effect: Sendable {
        case start(Slot, generation: UInt64)
        case stop(Slot, generation: UInt64)
        case kill(Slot, generation: UInt64)
        /// Bring ``Event/delayElapsed(_:delay:)`` when the time has passed. Numbers are never used again, so that a delay which was
        /// cancelled and fires late is not taken for a later one.
        case scheduleDelay(Slot, delay: UInt64, Duration)
        case cancelDelay(Slot)
        /// Bring ``Event/retry(_:generation:)`` back through the mailbox, behind what waits there.
        case retry(Slot, generation: UInt64)
        case report(Slot, Report)
        /// The child that this request brings gets this slot.
        case adopt(Slot, request: UInt64)
        case reply(UInt64, Reply)
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

    /// The part of a child's specification that decisions depend on. An object, so that it is shared and never copied; it
    /// does not change.
    class Settings: @unchecked Sendable {
        // Sendable: everything stored here and in the one subclass, ``ChildSpecification``, is immutable and `Sendable`.
        let id: String
        let policy: ChildPolicy

        init(id: String, policy: ChildPolicy) {
            self.id = id
            self.policy = policy
        }

        var restart: Restart { policy.restart }
        var shutdown: Shutdown { policy.shutdown }
        var isSignificant: Bool { policy.isSignificant }
        var backoff: Backoff? { policy.backoff }
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

    /// What is known of one child. Small, because there may be very many: what only a child that has failed has, is kept
    /// apart.
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

        var lastExit: ExitReason? {
            get { past.value?.lastExit }
            set { past.update(orMake: Past()) { $0.lastExit = newValue } }
        }

        /// Failures in a row, for the backoff.
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

        /// The failures in a row, with this one: the first again after an incarnation that was healthy for long enough.
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

    /// One thing at a time.
    struct Operation: Sendable {
        enum Purpose: Sendable {
            case boot
            case restart(Slot, after: Duration, resetsIntensity: Bool)
            case startChild(UInt64, Slot)
            case restartChild(UInt64, Slot)
            case terminateChild(UInt64)
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
        /// By id, as OTP's: when a group restart has overtaken the first of two retries and failed again, that one counts.
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
    // The state. Only the extensions of this type in this folder change it.
    var phase = Phase.initial
    var children = ChildList<Record>()
    var window: RestartWindow
    var operation: Operation?
    var deferred = Deque<Deferred>()
    var isServing = false
    var pendingDelays = 0
    var toBeKilled = 0
    var lastGeneration: UInt64 = 0
    var lastDelay: UInt64 = 0
    var random: SplitMix64
    var now = Duration.zero
    var effects: [Effect] = []

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

    /// What a supervisor does between two events.
    enum Activity: Sendable {
        case idle
        /// Nothing but to wait until the delay of a restart is over.
        case delaying
        /// Something is under way.
        case working
    }

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

    /// Appends what is to be done to `todo`.
    mutating func handle(_ event: Event, at time: Duration, _ todo: inout [Effect]) {
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
        // It retries through what it has deferred.
        case .retry: break
        case .request(let id, let request): self.request(id, request)
        case .stop(let reason): stop(reason)
        case .kill: kill()
        }
    }
}

extension SupervisorCore {
    /// The child's status, if the event that asks is of its current generation.
    func status(_ slot: Slot, _ generation: UInt64) -> Status? {
        guard children[slot]?.generation == generation else { return nil }
        return children[slot]?.status
    }

    mutating func reportStopped(_ slot: Slot, _ reason: ExitReason) {
        guard let settings = children[slot]?.settings else { return }
        let expected: Bool =
            switch reason {
            // A supervisor's own cause makes it no other end than OTP's bare `shutdown`.
            case .shutdown(let cause) where cause == nil || cause is SupervisionError:
                !settings.shutdown.isKill || settings.restart.isEndInOrder
            case .shutdown, .normal: settings.restart.isEndInOrder
            case .killed: settings.shutdown.isKill || phase == .killing
            case .crashed, .noProcess: false
            }
        effects.append(.report(slot, .stopped(reason, expected: expected)))
    }

    /// The child has no process any more. A temporary one is forgotten (statement 10).
    mutating func settleStopped(_ slot: Slot) {
        guard let settings = children[slot]?.settings else { return }
        children[slot]?.status = .stopped
        if !settings.restart.keepsSpecification { forget(slot) }
    }

    mutating func forget(_ slot: Slot) {
        guard let id = children[slot]?.settings.id else { return }
        cancelDelay(slot)
        children.remove(slot, id: id)
        effects.append(.forget(slot, id: id))
    }
}

extension SupervisorCore {
    /// Why the supervisor is on its way out, `nil` while it is not.
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
