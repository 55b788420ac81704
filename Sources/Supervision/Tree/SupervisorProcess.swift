import ConcurrencyPrimitives
import DequeModule
import Logging
import Synchronization

/// One incarnation of a supervisor: the shell that carries out the decisions of its ``SupervisorCore``.
///
/// It has a mailbox and no task. The thread that delivers an event handles everything in the mailbox: decisions take microseconds and never
/// block. An exit is therefore handled even while every thread of the cooperative pool is blocked, and readers never wait for a restart.
final class SupervisorProcess: Sendable, Drainable, SignalTarget {
    /// How the parent supervisor knows this supervisor.
    struct Link: Sendable {
        let owner: SupervisorProcess
        let slot: SupervisorCore.Slot
        let generation: UInt64
        /// The request that added it: the same for all its incarnations.
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
        /// It is starting, or will be started.
        case restarting(PendingChild)
        case none
    }

    /// A call that waits for its reply, with the child that it adds.
    private final class WaitingRequest: Sendable {
        let child: ChildSpecification?
        let argument: (any AnyObject & Sendable)?
        private let onReply: (@Sendable (AdministrationReply) -> Void)?
        private let state = Mutex(State())

        private struct State {
            var reply: AdministrationReply?
            /// Made by a caller that has to wait: most replies are there when the request has been delivered.
            var waiter: OneShot<AdministrationReply>?
        }

        init(
            child: ChildSpecification?,
            argument: (any AnyObject & Sendable)? = nil,
            onReply: (@Sendable (AdministrationReply) -> Void)? = nil
        ) {
            self.child = child
            self.argument = argument
            self.onReply = onReply
        }

        func answer(_ reply: AdministrationReply) {
            let waiter = state.withLock { state in
                state.reply = reply
                return state.waiter
            }
            waiter?.set(reply)
            onReply?(reply)
        }

        func reply() async throws(CancellationError) -> AdministrationReply {
            let (reply, waiter) = state.withLock { state -> (AdministrationReply?, OneShot<AdministrationReply>?) in
                if let reply = state.reply { return (reply, nil) }
                state.waiter = OneShot()
                return (nil, state.waiter)
            }
            if let reply { return reply }
            guard let waiter else { throw CancellationError() }
            return try await waiter.value()
        }
    }

    private struct State {
        var core: AnySupervisorCore
        var mailbox = Deque<SupervisorCore.Event>()
        var isDraining = false
        /// This supervisor's share in the tree's ``TreeActivity``.
        var activity = SupervisorCore.Activity.idle
        var childRecords = ChildRecords()
        var hasBooted = false
        var hasToldStopping = false
        var stopTimer: SupervisionTimer?
        var lastRequest: UInt64 = 0
        /// Calls that wait for their reply. Each is a suspended task of a caller.
        var requests: [UInt64: WaitingRequest] = [:]
        var onBoot: (@Sendable (_ isUp: Bool) -> Void)?
        /// The callers that wait for a child to start, each a suspended task.
        var arrivals = Arrivals()
    }

    let process: Process
    let specification: SupervisorSpecification
    let path: String
    let link: Link?
    let environment: TreeEnvironment
    private let state: Mutex<State>
    /// The number of callers in `arrivals`, readable without the lock.
    private let arrivalCount = Atomic(0)

    var parent: SupervisorProcess? { link?.owner }

    /// Whether all its children have been running.
    var hasBooted: Bool { state.withLock { $0.hasBooted } }

    /// Whether the supervisor's life phases are reported: to the tree's log, or to an observer.
    var tellsLife: Bool { link == nil || specification.onLife != nil }

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

    /// Starts the children, as a child of another supervisor, which receives the outcome. A signal that arrives before this ends it without
    /// a start.
    func launch() {
        boot(onBoot: nil)
    }

    /// Starts the children and waits until all are running (true) or the supervisor is shutting down (false).
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
                "'\(parent?.path ?? path)' is already running in another place: describe a separate keyed supervisor for each place"
            enqueue(.stop(.crashed(SupervisionError.invalidSpecification(text))))
        } else {
            enqueue(.boot)
        }
    }

    /// Ends an incarnation that was created but is not needed.
    func discard() {
        enqueue(.stop(.shutdown()))
    }

    func receive(_ signal: Signal) {
        switch signal {
        case .exit(let reason): enqueue(.stop(reason))
        case .crash(let error): enqueue(.stop(.crashed(error)))
        // A supervisor traps exits, and ignores exit signals of processes that are not its children (statement 12).
        case .linked: return
        case .kill: enqueue(.kill)
        case .finish: enqueue(.stop(.normal))
        }
    }

    /// Stops it as a child of another supervisor.
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

    /// Called before the exit of this child is announced.
    func abandoned(_ child: ChildProcess) {
        environment.faults.abandoned(child)
        environment.metrics?.zombies(environment.zombies.count)
        state.withLock { state in
            guard case .child(let current) = state.childRecords[child.slot]?.incarnation, current === child else {
                return
            }
            state.childRecords.update(child.slot) {
                $0.extras.update(orMake: ChildRecord.Extras()) { $0.abandoned += 1 }
            }
        }
        emit(child.path, Pid(process: child.process), .abandoned)
        switch child.specification.policy.options.onUnstoppable {
        case .abandon: return
        case .escalate: enqueue(.stop(.shutdown(cause: SupervisionError.unstoppable(child: child.path))))
        case .crashProcess: CrashReport.endProcess(because: SupervisionError.unstoppable(child: child.path), in: self)
        }
    }

    /// Why it has ended or is shutting down.
    var endingReason: ExitReason? { process.exitReason ?? state.withLock { $0.core.endingReason } }

    // MARK: - Mailbox

    func enqueue(_ event: SupervisorCore.Event) {
        enqueue { _ in event }
    }

    private func enqueue(_ event: (inout State) -> SupervisorCore.Event) {
        environment.metrics?.mailbox(1)
        let drains = state.withLock { state in
            state.mailbox.append(event(&state))
            updateActivity(&state)
            return !state.isDraining
        }
        if drains { Trampoline.run(self) }
    }

    func drain() {
        var effects: [SupervisorCore.Effect] = []
        effects.reserveCapacity(4)
        var isFirst = true
        while let decision = decide(&effects, isFirst) {
            isFirst = false
            environment.metrics?.mailbox(-1)
            if let reason = decision.stopping { emit(.stopping(reason)) }
            for index in effects.indices { perform(effects, index) }
            announceArrivals(effects)
        }
    }

    /// The result of one event, besides its effects.
    private struct Decision {
        /// Set once, when the supervisor begins to shut down: reported before the first child is stopped.
        var stopping: ExitReason?
    }

    /// Handles the next event. `effects` is replaced by the resulting effects; its buffer is reused. Returns `nil` when the mailbox is
    /// empty, and at the first call also when another thread is draining it.
    private func decide(_ effects: inout [SupervisorCore.Effect], _ isFirst: Bool) -> Decision? {
        state.withLock { state in
            if isFirst {
                if state.isDraining { return nil }
                state.isDraining = true
            }
            guard let event = state.mailbox.popFirst() else {
                state.isDraining = false
                updateActivity(&state)
                return nil
            }
            effects.removeAll(keepingCapacity: true)
            state.core.handle(
                event,
                at: environment.clock.now,
                directly: environment.faults.decidesDirectly,
                &effects
            )
            guard tellsLife, !state.hasToldStopping, let reason = state.core.endingReason else { return Decision() }
            state.hasToldStopping = true
            return Decision(stopping: reason)
        }
    }

    private func updateActivity(_ state: inout State) {
        let activity = state.isDraining || !state.mailbox.isEmpty ? .working : state.core.activity
        guard activity != state.activity else { return }
        environment.activity.change(from: state.activity, to: activity)
        state.activity = activity
    }

    // MARK: - Effects

    private func perform(_ effects: [SupervisorCore.Effect], _ index: Int) {
        switch effects[index] {
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
                guard let waiting = state.requests[request], let child = waiting.child else { return }
                state.childRecords[slot] = ChildRecord(child, waiting.argument, entry: request)
            }
        case .reply(let request, let reply): answer(request, reply)
        case .retry(let slot, let generation): enqueue(.retry(slot, generation: generation))
        case .report(let slot, let report):
            measure(slot, report)
            emit(slot, report, next: nextStart(of: slot, in: effects[(index + 1)...]))
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
            let restarts = state.core.restarts(slot)
            return state.childRecords.update(slot) { childRecord in
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
                                incarnation: restarts,
                                argument: childRecord.argument
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
                childRecord.incarnation = incarnation
                return incarnation
            }
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
        if tellsLife { emit(.started(children: specification.children.count)) }
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
        if tellsLife { emit(.ended(reason)) }
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
        // The partitions of a keyed supervisor are not part of its processes' paths.
        (specification.keyed == nil ? path : parent?.path ?? path) + "/" + name(of: id, entry)
    }

    /// The ids of a dynamic supervisor's children need not be unique: the request that added a child distinguishes them.
    func name(of id: String, _ entry: UInt64) -> String {
        if case .dynamic = specification.kind, specification.keyed == nil { return "\(id)#\(entry)" }
        return id
    }
}

// MARK: - Administration

extension SupervisorProcess {
    /// Sends a request to the core. It waits for a restart that is under way, however long that takes, as in OTP.
    func administer(
        _ request: SupervisorCore.Request,
        bringing child: ChildSpecification? = nil,
        with argument: (any AnyObject & Sendable)? = nil
    ) async -> AdministrationReply {
        if Task.isCancelled { return (.cancelled, nil) }
        let waiting = WaitingRequest(child: child, argument: argument)
        if let child, child.mayStartOnWaitingThread {
            WaitingThread.beginsStarts(.request(of: self)) { enqueue(request, waiting) }
        } else {
            enqueue(request, waiting)
        }
        do {
            return try await waiting.reply()
        } catch {
            // The request stays until it is answered: the start of the child may be under way, and needs its specification.
            return (.cancelled, nil)
        }
    }

    /// The same without waiting: `onReply` is called once, on the thread that has the reply.
    func administer(
        _ request: SupervisorCore.Request,
        bringing child: ChildSpecification? = nil,
        onReply: @escaping @Sendable (AdministrationReply) -> Void
    ) {
        enqueue(request, WaitingRequest(child: child, onReply: onReply))
    }

    private func enqueue(_ request: SupervisorCore.Request, _ waiting: WaitingRequest) {
        enqueue { state in
            state.lastRequest += 1
            state.requests[state.lastRequest] = waiting
            WaitingThread.requests(state.lastRequest, of: self)
            return .request(state.lastRequest, request)
        }
    }

    /// Stops the child that a request added, across restarts. Callers that need to know of the exit watch for it.
    func terminate(_ slot: SupervisorCore.Slot, entry: UInt64) {
        let generation = state.withLock { state -> UInt64? in
            guard state.childRecords[slot]?.entry == entry else { return nil }
            return state.core.record(slot)?.generation
        }
        guard let generation else { return }
        administer(.terminateSlot(slot, generation: generation)) { [self] reply, _ in
            // The child was restarted in between.
            if case .notFound = reply { terminate(slot, entry: entry) }
        }
    }

    private func answer(_ request: UInt64, _ reply: SupervisorCore.Reply) {
        let (waiting, entry) = state.withLock { state -> (WaitingRequest?, AdministeredChild?) in
            let waiting = state.requests.removeValue(forKey: request)
            switch reply {
            case .started(let slot), .alreadyStarted(let slot):
                let pid = state.childRecords[slot]?.incarnation?.pid
                return (waiting, AdministeredChild(slot: slot, entry: state.childRecords[slot]?.entry ?? 0, pid: pid))
            case .done, .ignored, .alreadyPresent, .tooManyChildren, .notFound, .running, .restarting, .startFailed,
                .noProcess, .cancelled:
                return (waiting, nil)
            }
        }
        waiting?.answer((reply, entry))
    }
}

// MARK: - Reading

/// Reads of a supervisor return immediately, even during a restart.
extension SupervisorProcess {
    func lookUp(_ id: String) -> LookUp {
        state.withLock { state in
            guard let slot = state.core.slot(of: id) else { return .none }
            return lookUp(slot, &state)
        }
    }

    private func lookUp(_ slot: SupervisorCore.Slot, _ state: inout State) -> LookUp {
        guard let status = state.core.record(slot)?.status else { return .none }
        switch status {
        case .stopped where !state.core.isAboutToStart(slot): return .none
        case .stopped, .starting, .restarting, .down: break
        case .running, .stopping:
            switch state.childRecords[slot]?.incarnation {
            case .supervisor(let supervisor): if supervisor.process.isAlive { return .supervisor(supervisor) }
            case .child(let child): if child.process.isAlive { return .child(child) }
            case nil: return .none
            }
        }
        return .restarting(PendingChild(supervisor: self, slot: slot))
    }

    /// The child that a request added, across restarts.
    func lookUp(slot: SupervisorCore.Slot, entry: UInt64) -> LookUp {
        state.withLock { state in
            guard let childRecord = state.childRecords[slot], childRecord.entry == entry else { return .none }
            return lookUp(slot, &state)
        }
    }

    /// Whether there is a child with this id, in any state.
    func hasChild(_ id: String) -> Bool {
        state.withLock { $0.core.slot(of: id) != nil }
    }

    /// The number of restarts that count towards the intensity at `now`.
    func restartsInWindow(at now: Duration) -> Int {
        state.withLock { $0.core.restartsInWindow(at: now) }
    }

    /// The children in start order, with their current state.
    func snapshot() -> [(ChildSpecification, SupervisorCore.Record, Incarnation?, childRecord: ChildRecord)] {
        state.withLock { state in
            state.core.slots.compactMap { slot in
                guard let record = state.core.record(slot), let childRecord = state.childRecords[slot] else {
                    return nil
                }
                return (childRecord.specification, record, childRecord.incarnation, childRecord)
            }
        }
    }
}

// MARK: - Metrics, events and logs

/// Publishes metrics, events and logs.
extension SupervisorProcess {
    private func measure(_ slot: SupervisorCore.Slot, _ report: SupervisorCore.Report) {
        guard let metrics = environment.metrics else { return }
        switch report {
        case .started:
            let (isRestart, downSince) = state.withLock { state in
                let downSince = state.childRecords.update(slot) { childRecord -> Duration? in
                    childRecord.isCounted = true
                    return childRecord.extras.update { $0.downSince.take() } ?? nil
                }
                return (state.core.restarts(slot) > 0, downSince ?? nil)
            }
            metrics.childStarted(
                isRestart: isRestart,
                downFor: downSince.map { environment.clock.now - $0 }
            )
        case .exited(let reason, _), .stopped(let reason, _):
            let now = environment.clock.now
            let wasCounted = state.withLock { state in
                state.childRecords.update(slot) { childRecord in
                    if childRecord.specification.restart.keepsSpecification {
                        childRecord.extras.update(orMake: ChildRecord.Extras()) { $0.downSince = now }
                    }
                    defer { childRecord.isCounted = false }
                    return childRecord.isCounted
                } ?? false
            }
            if wasCounted { metrics.childEnded(reason) }
        case .ignored, .startFailed, .restarting, .coolingDown, .gaveUp: return
        }
    }

    /// The delay until the child of a report is restarted, if that was decided together with it.
    private func nextStart(of slot: SupervisorCore.Slot, in effects: ArraySlice<SupervisorCore.Effect>) -> Duration? {
        for case .report(slot, .restarting(let delay)) in effects { return delay }
        return nil
    }

    /// - Parameter next: The delay until the child is restarted, if known.
    private func emit(_ slot: SupervisorCore.Slot, _ report: SupervisorCore.Report, next: @autoclosure () -> Duration?)
    {
        let isLogged = environment.logger.logLevel <= SupervisionLog.level(of: report)
        guard isLogged || environment.events.isHeard(report.interest) else { return }
        let childRecord = state.withLock { $0.childRecords[slot] }
        let childPath = path(of: childRecord?.specification.id ?? "?", childRecord?.entry ?? 0)
        let kind: SupervisionEvent.Kind =
            switch report {
            case .started: .started
            case .ignored: .ignored
            case .exited(let reason, let expected): .exited(reason, expected: expected)
            case .startFailed(let reason): .startFailed(reason)
            case .restarting(let delay): .restarting(after: delay)
            case .coolingDown(let pause, let reason): .coolingDown(pause, reason)
            case .gaveUp(let reason): .gaveUp(reason)
            case .stopped(let reason, let expected): .stopped(reason, expected: expected)
            }
        var details = SupervisionLog.Details()
        if let next = next() {
            details.retryIn = next
            details.attempt = state.withLock { $0.core.restarts(slot) + 1 }
        }
        if case .exited(let reason, _) = report {
            details.isTold = childRecord?.specification.policy.isTold?(reason) ?? false
        }
        emit(childPath, childRecord?.incarnation?.pid, kind, details)
    }

    private func emit(
        _ childPath: String,
        _ pid: Pid?,
        _ kind: SupervisionEvent.Kind,
        _ details: SupervisionLog.Details = SupervisionLog.Details()
    ) {
        let event = SupervisionEvent(path: childPath, pid: pid, kind: kind)
        environment.events.publish(event)
        SupervisionLog.write(event, supervisor: path, details, to: environment.logger)
    }

    /// Reports a phase of this supervisor's own life.
    private func emit(_ phase: LifePhase) {
        if let onLife = specification.onLife { return onLife(phase, environment.logger) }
        guard link == nil else { return }
        SupervisionLog.write(phase, supervisor: path, abandoned: environment.zombies.count, to: environment.logger)
    }
}

extension SupervisorCore.Report {
    fileprivate var interest: EventInterest {
        switch self {
        case .started, .ignored, .exited(_, expected: true), .stopped(_, expected: true): .everything
        case .startFailed, .exited, .stopped, .restarting, .coolingDown, .gaveUp: .failures
        }
    }
}

// MARK: - Waiting callers

extension SupervisorProcess {
    /// Calls `handler` once, when the child in this slot may have started or been removed; immediately when it is not being started.
    func watchArrival(_ slot: SupervisorCore.Slot, _ handler: @escaping @Sendable () -> Void) -> UInt64 {
        let token = state.withLock { state -> UInt64? in
            guard case .restarting = lookUp(slot, &state), state.core.phase != .finished else { return nil }
            arrivalCount.add(1, ordering: .relaxed)
            return state.arrivals.add(slot, handler)
        }
        if token == nil { handler() }
        return token ?? 0
    }

    func unwatchArrival(_ slot: SupervisorCore.Slot, _ token: UInt64) {
        state.withLock { state in
            if state.arrivals.remove(slot, token) { arrivalCount.subtract(1, ordering: .relaxed) }
        }
    }

    /// Wakes the callers that wait for the children of these effects.
    private func announceArrivals(_ effects: [SupervisorCore.Effect]) {
        // A waiter is counted under the lock under which the state changed that caused these effects.
        guard arrivalCount.load(ordering: .relaxed) > 0 else { return }
        var due: [@Sendable () -> Void] = []
        state.withLock { state in
            for effect in effects {
                switch effect {
                case .report(let slot, _), .forget(let slot, _), .cancelDelay(let slot):
                    due += state.arrivals.take(slot)
                case .reply(_, .done):
                    // An ordered supervisor stops a child that waits for its restart without a separate effect.
                    if case .ordered = specification.kind { due += state.arrivals.takeAll() }
                case .finished: due += state.arrivals.takeAll()
                case .start, .stop, .kill, .scheduleDelay, .retry, .adopt, .reply, .booted: continue
                }
            }
            arrivalCount.subtract(due.count, ordering: .relaxed)
        }
        for handler in due { handler() }
    }
}
