import ConcurrencyPrimitives
import DequeModule
import Synchronization

/// One incarnation of a supervisor: the shell that carries out what its ``SupervisorCore`` decides.
///
/// It has a mailbox and no task. Whoever brings an event handles everything that waits, on its own thread: deciding takes
/// microseconds and blocks nobody. So an exit is acted upon also while every thread of the cooperative pool is blocked, and
/// readers never wait behind a running strategy.
final class SupervisorProcess: Sendable, Drainable, SignalTarget {
    /// How this supervisor's own supervisor knows it.
    struct Link: Sendable {
        let owner: SupervisorProcess
        let slot: SupervisorCore.Slot
        let generation: UInt64
        /// The request that brought it: the same for all its incarnations.
        let entry: UInt64
    }

    enum Incarnation: Sendable {
        case child(ChildProcess)
        case supervisor(SupervisorProcess)

        var pid: Pid {
            switch self {
            case .child(let child): Pid(process: child.process)
            case .supervisor(let supervisor): Pid(process: supervisor.process)
            }
        }
    }

    enum LookUp {
        case child(ChildProcess)
        case supervisor(SupervisorProcess)
        /// It is being started, or will be.
        case restarting(PendingChild)
        case none
    }

    /// A call that waits for its reply, with the child that it brings.
    final class WaitingRequest: Sendable {
        let child: ChildSpecification?
        let reply = OneShot<AdministrationReply>()
        let onReply: (@Sendable (AdministrationReply) -> Void)?

        init(child: ChildSpecification?, onReply: (@Sendable (AdministrationReply) -> Void)? = nil) {
            self.child = child
            self.onReply = onReply
        }
    }

    struct State {
        var core: AnySupervisorCore
        var mailbox = Deque<SupervisorCore.Event>()
        var isDraining = false
        /// What the tree's ``TreeActivity`` knows of this supervisor.
        var activity = SupervisorCore.Activity.idle
        var childRecords = ChildRecords()
        var hasBooted = false
        var stopTimer: SupervisionTimer?
        var lastRequest: UInt64 = 0
        /// Calls that wait for their reply. Each is a suspended task of a caller's.
        var requests: [UInt64: WaitingRequest] = [:]
        var onBoot: (@Sendable (_ isUp: Bool) -> Void)?
        /// The callers that wait for a child to come up, each with a suspended task.
        var arrivals = Arrivals()
    }

    let process: Process
    let specification: SupervisorSpecification
    let path: String
    let link: Link?
    let environment: TreeEnvironment
    let state: Mutex<State>
    /// How many wait for a child that is being started, for those who would tell them.
    let arrivalCount = Atomic(0)

    var parent: SupervisorProcess? { link?.owner }

    init(_ specification: SupervisorSpecification, link: Link?, environment: TreeEnvironment) {
        self.specification = specification
        self.link = link
        self.environment = environment
        process = Process(
            place: link.map { .init(owner: $0.owner.process.number, slot: $0.slot, generation: $0.generation) }
                ?? .init()
        )
        path = link.map { $0.owner.path(of: specification.name, $0.entry) } ?? specification.name
        let seed = UInt64.random(in: .min ... .max)
        switch specification.kind {
        case .ordered(let strategy):
            var core = SupervisorCore(
                name: path,
                strategy: strategy,
                intensity: specification.intensity,
                whenExceeded: specification.whenExceeded,
                autoShutdown: specification.autoShutdown,
                seed: seed
            )
            var childRecords = ChildRecords()
            for child in specification.children {
                if let slot = core.add(child.specification) { childRecords[slot] = ChildRecord(child.specification) }
            }
            state = Mutex(State(core: AnySupervisorCore(core), childRecords: childRecords))
        case .dynamic(let maximumChildren):
            let core = DynamicCore(
                name: path,
                intensity: specification.intensity,
                whenExceeded: specification.whenExceeded,
                maximumChildren: maximumChildren,
                scope: specification.keyed.map { .eachChild(givesUp: $0.givesUpChild) } ?? .allChildren,
                seed: seed
            )
            state = Mutex(State(core: AnySupervisorCore(core)))
        }
        process.attach(self)
    }

    // MARK: - Life

    /// Starts the children, as a child of its own supervisor: that hears of the outcome. A signal that comes before this ends it
    /// without a start.
    func launch() {
        boot(onBoot: nil)
    }

    /// Starts the children and waits until all are up: true, or until it is on its way out: false.
    func boot() async -> Bool {
        await withCheckedContinuation { continuation in
            boot { continuation.resume(returning: $0) }
        }
    }

    private func boot(onBoot: (@Sendable (_ isUp: Bool) -> Void)?) {
        let isOver = state.withLock { state in
            if state.core.phase == .finished { return true }
            state.onBoot = onBoot
            return false
        }
        if isOver {
            onBoot?(false)
        } else if let fault = environment.faults.takeFault(key) {
            enqueue(.stop(.crashed(fault)))
        } else if let keyed = specification.keyed, !keyed.table.attach(self) {
            let text =
                "'\(parent?.path ?? path)' runs already, in another place: describe a keyed supervisor for each place"
            enqueue(.stop(.crashed(SupervisionError.invalidSpecification(text))))
        } else {
            enqueue(.boot)
        }
    }

    /// Ends one that was made and is not needed.
    func discard() {
        enqueue(.stop(.shutdown()))
    }

    func receive(_ signal: Signal) {
        switch signal {
        case .exit(let reason): enqueue(.stop(reason))
        case .crash(let error): enqueue(.stop(.crashed(error)))
        // A supervisor traps exits, and ignores those of processes that are no children of its own (statement 12).
        case .linked: return
        case .kill: enqueue(.kill)
        case .finish: enqueue(.stop(.normal))
        case .hang: for (_, _, incarnation, _) in snapshot() { incarnation?.pid.process.send(.hang) }
        }
    }

    /// Stops it as a child of its own supervisor.
    func stop() {
        switch specification.shutdown {
        case .brutalKill: enqueue(.kill)
        case .infinity: enqueue(.stop(.shutdown()))
        case .timeout(let timeout):
            enqueue(.stop(.shutdown()))
            let timer = environment.clock.schedule(after: timeout) { [weak self] in self?.enqueue(.kill) }
            let isOver = state.withLock { state in
                state.stopTimer = timer
                return state.core.phase == .finished
            }
            if isOver { timer.cancel() }
        }
    }

    /// Comes before the exit of this child is announced.
    func abandoned(_ child: ChildProcess) {
        environment.faults.abandoned(child)
        environment.metrics.zombies(environment.zombies.count)
        state.withLock { state in
            guard case .child(let current) = state.childRecords[child.slot]?.incarnation, current === child else {
                return
            }
            state.childRecords.update(child.slot) {
                $0.extras.update(orMake: ChildRecord.Extras()) { $0.abandoned += 1 }
            }
        }
        emit(child.path, Pid(process: child.process), .abandoned)
        switch child.specification.policy.onUnstoppable {
        case .abandon: return
        case .escalate: enqueue(.stop(.shutdown(cause: SupervisionError.unstoppable(child: child.path))))
        case .crashProcess: CrashReport.endProcess(because: SupervisionError.unstoppable(child: child.path), in: self)
        }
    }

    /// Why it has ended or is on its way out.
    var endingReason: ExitReason? { process.exitReason ?? state.withLock { $0.core.endingReason } }

    // MARK: - Mailbox

    func enqueue(_ event: SupervisorCore.Event) {
        let drains = state.withLock { state in
            state.mailbox.append(event)
            updateActivity(&state)
            return !state.isDraining
        }
        if drains { Trampoline.run(self) }
    }

    func drain() {
        let mine = state.withLock { state in
            defer { state.isDraining = true }
            return !state.isDraining
        }
        guard mine else { return }
        var effects: [SupervisorCore.Effect] = []
        effects.reserveCapacity(4)
        while decide(&effects) {
            for effect in effects { perform(effect) }
            announceArrivals(effects)
        }
    }

    /// Handles the next event. `effects` becomes what is to be done, in the same memory.
    private func decide(_ effects: inout [SupervisorCore.Effect]) -> Bool {
        state.withLock { state in
            guard let event = state.mailbox.popFirst() else {
                state.isDraining = false
                updateActivity(&state)
                return false
            }
            effects.removeAll(keepingCapacity: true)
            state.core.handle(event, at: environment.clock.now, &effects)
            return true
        }
    }

    private func updateActivity(_ state: inout State) {
        let activity = state.isDraining || !state.mailbox.isEmpty ? .working : state.core.activity
        guard activity != state.activity else { return }
        environment.activity.change(from: state.activity, to: activity)
        state.activity = activity
    }

    // MARK: - Effects

    private func perform(_ effect: SupervisorCore.Effect) {
        switch effect {
        case .start(let slot, let generation): start(slot, generation)
        case .stop(let slot, let generation):
            switch incarnation(slot, generation) {
            case .child(let child): child.stop()
            case .supervisor(let supervisor): supervisor.stop()
            case nil: break
            }
        case .kill(let slot, let generation):
            switch incarnation(slot, generation) {
            case .child(let child): child.receive(.kill)
            case .supervisor(let supervisor): supervisor.enqueue(.kill)
            case nil: break
            }
        case .scheduleDelay(let slot, let delay, let duration):
            let timer = environment.clock.schedule(after: duration) { [weak self] in
                self?.enqueue(.delayElapsed(slot, delay: delay))
            }
            state.withLock { state in
                state.childRecords.update(slot) { $0.extras.update(orMake: ChildRecord.Extras()) { $0.delay = timer } }
            }
        case .cancelDelay(let slot):
            let timer = state.withLock { state -> SupervisionTimer? in
                state.childRecords.update(slot) { childRecord -> SupervisionTimer? in
                    childRecord.extras.update { $0.delay.take() } ?? nil
                } ?? nil
            }
            timer?.cancel()
        case .adopt(let slot, let request):
            state.withLock { state in
                guard let child = state.requests[request]?.child else { return }
                state.childRecords[slot] = ChildRecord(child, entry: request)
            }
        case .reply(let request, let reply): answer(request, reply)
        case .retry(let slot, let generation): enqueue(.retry(slot, generation: generation))
        case .report(let slot, let report):
            measure(slot, report)
            emit(slot, report)
        case .forget(let slot, _):
            let childRecord = state.withLock { state in
                defer { state.childRecords[slot] = nil }
                return state.childRecords[slot]
            }
            if let keyed = specification.keyed, let childRecord { keyed.table.forgotten(childRecord.entry, by: self) }
        case .booted: booted()
        case .finished(let reason): finished(reason)
        }
    }

    private func start(_ slot: SupervisorCore.Slot, _ generation: UInt64) {
        let next = state.withLock { state -> Incarnation? in
            guard let childRecord = state.childRecords[slot] else { return nil }
            let incarnation: Incarnation =
                switch childRecord.specification.kind {
                case .actor(let body):
                    .child(
                        ChildProcess(
                            childRecord.specification,
                            body,
                            owner: self,
                            slot: slot,
                            generation: generation,
                            entry: childRecord.entry,
                            incarnation: state.core.restarts(slot)
                        )
                    )
                case .supervisor(let specification):
                    .supervisor(
                        SupervisorProcess(
                            specification,
                            link: Link(owner: self, slot: slot, generation: generation, entry: childRecord.entry),
                            environment: environment
                        )
                    )
                }
            state.childRecords.update(slot) { $0.incarnation = incarnation }
            return incarnation
        }
        switch next {
        case .child(let child): child.launch()
        case .supervisor(let supervisor): supervisor.launch()
        case nil: break
        }
    }

    private func booted() {
        let onBoot = state.withLock { state in
            state.hasBooted = true
            defer { state.onBoot = nil }
            return state.onBoot
        }
        onBoot?(true)
        if let link { link.owner.enqueue(.started(link.slot, generation: link.generation)) }
    }

    private func finished(_ reason: ExitReason) {
        let (hadBooted, onBoot, timer) = state.withLock { state in
            defer {
                state.onBoot = nil
                state.stopTimer = nil
                state.childRecords = ChildRecords()
            }
            return (state.hasBooted, state.onBoot, state.stopTimer)
        }
        timer?.cancel()
        specification.keyed?.table.detach(self)
        process.finish(reason)
        onBoot?(false)
        if let link {
            link.owner.enqueue(
                hadBooted
                    ? .exited(link.slot, generation: link.generation, reason)
                    : .startFailed(link.slot, generation: link.generation, reason)
            )
        } else {
            environment.events.finish()
        }
    }

    private func incarnation(_ slot: SupervisorCore.Slot, _ generation: UInt64) -> Incarnation? {
        let incarnation = state.withLock { $0.childRecords[slot]?.incarnation }
        switch incarnation {
        case .child(let child): return child.generation == generation ? incarnation : nil
        case .supervisor(let supervisor): return supervisor.link?.generation == generation ? incarnation : nil
        case nil: return nil
        }
    }

    // MARK: - Names

    /// The path of a child, the same for all its incarnations.
    func path(of id: String, _ entry: UInt64) -> String {
        // The partitions of a keyed supervisor are no part of its processes' names.
        (specification.keyed == nil ? path : parent?.path ?? path) + "/" + name(of: id, entry)
    }

    /// The ids of a dynamic supervisor's children need not be unique: the request that brought a child tells them apart.
    func name(of id: String, _ entry: UInt64) -> String {
        if case .dynamic = specification.kind, specification.keyed == nil { return "\(id)#\(entry)" }
        return id
    }
}
