import ConcurrencyPrimitives
import Synchronization

/// The interface of a table of keys to the supervisor process that serves it.
protocol KeyedTable: AnyObject, Sendable {
    /// The first problem with its settings, `nil` if they are valid.
    var problem: String? { get }
    /// A supervisor begins to serve the table. False when another one already does.
    func attach(_ process: SupervisorProcess) -> Bool
    /// The supervisor has ended.
    func detach(_ process: SupervisorProcess)
    /// A child has ended and is not restarted.
    func forgotten(_ entry: UInt64, by process: SupervisorProcess)
    /// Prevents the child from being ended as idle until the returned closure is called; `nil` when it is about to end.
    func lease(_ entry: UInt64) -> (@Sendable () -> Void)?
}

/// One partition of the keys of a ``KeyedSupervisor``: the shell around a ``KeyedCore``, and the dynamic supervisor that starts its
/// processes. Only this type takes its lock.
final class KeyedPartition<Key: Hashable & Sendable, A: Actor>: KeyedTable {
    typealias Core = KeyedCore<Key>

    private struct State {
        var core: Core
        var process: SupervisorProcess?
        var waiters: [Core.Waiter: OneShot<Waited>] = [:]
        var timer: SupervisionTimer?
    }

    /// What ended a wait.
    enum Waited: Sendable {
        case outcome(Core.Outcome, SupervisorProcess?)
        case timedOut
        case cancelled
    }

    /// A process that may be called until ``KeyedPartition/release(_:)``.
    struct Leased: Sendable {
        let lease: Core.Lease
        let process: SupervisorProcess
    }

    private let index: Int
    private let settings: KeyedSettings<Key, A>
    private let state: Mutex<State>

    init(index: Int, settings: KeyedSettings<Key, A>) {
        self.index = index
        self.settings = settings
        state = Mutex(State(core: Core(idleTimeout: settings.idleTimeout, isBounded: settings.limit.maximum != nil)))
    }

    // MARK: - Notifications of the supervisor

    var problem: String? { index == 0 ? settings.problem : nil }

    func attach(_ process: SupervisorProcess) -> Bool {
        state.withLock { state in
            guard state.process == nil else { return false }
            state.process = process
            state.core.open()
            return true
        }
    }

    func detach(_ process: SupervisorProcess) {
        let timer = state.withLock { state -> SupervisionTimer? in
            guard state.process === process else { return nil }
            return state.timer.take()
        }
        timer?.cancel()
        handle(from: process) { core, actions in core.close(&actions) }
        state.withLock { state in
            if state.process === process { state.process = nil }
        }
    }

    func forgotten(_ entry: UInt64, by process: SupervisorProcess) {
        handle(from: process) { core, actions in core.forgotten(entry, &actions) }
    }

    func lease(_ entry: UInt64) -> (@Sendable () -> Void)? {
        let leased = state.withLock { state -> Leased? in
            guard let process = state.process, let lease = state.core.lease(on: entry) else { return nil }
            return Leased(lease: lease, process: process)
        }
        guard let leased else { return nil }
        return { self.release(leased) }
    }

    // MARK: - Calls

    var keys: [Key] { state.withLock { $0.core.keys } }

    var count: Int { state.withLock { $0.core.count } }

    /// The clock of the tree while it runs.
    var clock: (any SupervisionClock)? { state.withLock { $0.process?.environment.clock } }

    /// The number of calls that wait for a process.
    var waiting: Int { state.withLock { $0.waiters.count } }

    /// Whether the process of a key is ending, or will end after the calls that are under way.
    func isStopping(_ key: Key) -> Bool { state.withLock { $0.core.isEnding(key) } }

    func path(of key: Key) -> String { settings.path(of: key, state.withLock { $0.process }) }

    func address(of key: Key, _ leased: Leased) -> Address {
        let child = leased.lease.child
        return Address(
            anchor: .keyed(leased.process, child.slot, entry: child.entry) { [settings] in
                settings.path(of: key, leased.process)
            },
            names: []
        )
    }

    /// The process of a key, as its supervisor knows it.
    func child(of key: Key) -> ChildProcess? {
        let found = state.withLock { state in
            state.core.child(of: key).flatMap { child in state.process.map { ($0, child) } }
        }
        guard let (process, child) = found,
            case .child(let running) = process.lookUp(slot: child.slot, entry: child.entry)
        else { return nil }
        return running
    }

    /// The living process of a key, and resets its idle time; `nil` when there is none, or it is starting or ending.
    func touch(_ key: Key) -> ChildProcess? {
        let use = settings.nextUse()
        var actions: [Core.Action] = []
        let found = state.withLock { state -> (SupervisorProcess, Core.Child)? in
            guard let process = state.process else { return nil }
            // The clock is read only where an idle timeout needs it.
            let now = settings.idleTimeout == nil ? .zero : process.environment.clock.now
            return state.core.touch(key, at: now, use: use, &actions).map { (process, $0) }
        }
        guard let (process, child) = found else { return nil }
        if !actions.isEmpty { perform(actions, process) }
        guard case .child(let running) = process.lookUp(slot: child.slot, entry: child.entry) else { return nil }
        return running
    }

    /// The process of a key with a lease on it; starts it and waits for it if necessary.
    ///
    /// - Throws: ``CallError``, `CancellationError`.
    func lease(_ key: Key, within timeout: Duration, until deadline: Duration) async throws -> Leased {
        var actions: [Core.Action] = []
        let (answer, process, once) = state.withLock { state -> (Core.Answer, SupervisorProcess?, OneShot<Waited>?) in
            let answer = state.core.call(key, &actions)
            guard case .wait(let waiter) = answer else { return (answer, state.process, nil) }
            let once = OneShot<Waited>()
            state.waiters[waiter] = once
            return (answer, state.process, once)
        }
        guard let process else { throw CallError.noProcess(child: settings.path(of: key, nil)) }
        switch (answer, once) {
        case (.lease(let lease), _): return Leased(lease: lease, process: process)
        case (.closed, _), (.wait, nil): throw CallError.noProcess(child: settings.path(of: key, process))
        case (.wait(let waiter), let once?):
            perform(actions, process)
            switch await wait(once, waiter, key, until: deadline, process) {
            case .timedOut: throw CallError.timeout(child: settings.path(of: key, process), after: timeout)
            case .cancelled: throw CancellationError()
            case .outcome(.lease(let lease), let process?): return Leased(lease: lease, process: process)
            case .outcome(.failed(let failure), _): throw error(failure, key, process)
            case .outcome(.lease, nil), .outcome(.ended, _):
                throw CallError.noProcess(child: settings.path(of: key, process))
            }
        }
    }

    func release(_ leased: Leased) {
        let now = leased.process.environment.clock.now
        let use = settings.nextUse()
        handle(from: leased.process) { core, actions in core.release(leased.lease, at: now, use: use, &actions) }
    }

    /// The supervisor has removed the child of this lease, possibly before the notification of that has arrived.
    func isGone(_ leased: Leased) {
        forgotten(leased.lease.child.entry, by: leased.process)
    }

    /// Ends the process of a key after the calls that are under way, and returns when it has ended.
    func stop(_ key: Key) async throws {
        var actions: [Core.Action] = []
        let once = OneShot<Waited>()
        let (stopping, process) = state.withLock { state in
            let stopping = state.core.stop(key, &actions)
            if let waiter = stopping { state.waiters[waiter] = once }
            return (stopping, state.process)
        }
        guard let waiter = stopping, let process else { return }
        perform(actions, process)
        if case .cancelled = await wait(once, waiter, key, until: nil, process) { throw CancellationError() }
    }

    private func wait(
        _ once: OneShot<Waited>,
        _ waiter: Core.Waiter,
        _ key: Key,
        until deadline: Duration?,
        _ process: SupervisorProcess
    ) async -> Waited {
        let clock = process.environment.clock
        let timer = deadline.map { deadline in clock.schedule(after: deadline - clock.now) { once.set(.timedOut) } }
        let waited = await withTaskCancellationHandler {
            await once.settled()
        } onCancel: {
            once.set(.cancelled)
        }
        timer?.cancel()
        state.withLock { state in
            state.waiters[waiter] = nil
            _ = state.core.giveUp(waiter, of: key)
        }
        return waited
    }

    private func error(_ failure: Core.Failure, _ key: Key, _ process: SupervisorProcess) -> CallError {
        let path = settings.path(of: key, process)
        return switch failure {
        case .startFailed(let reason): .startFailed(child: path, reason)
        case .ignored, .closed: .noProcess(child: path)
        case .tooMany: .tooManyProcesses(child: path, limit: settings.limit.maximum ?? 0)
        }
    }

    // MARK: - Deciding and acting

    /// Decides under the lock and acts outside it. Drops calls from a supervisor that has been replaced.
    private func handle(from process: SupervisorProcess, _ decide: (inout Core, inout [Core.Action]) -> Void) {
        var actions: [Core.Action] = []
        state.withLock { state in
            guard state.process === process else { return }
            decide(&state.core, &actions)
        }
        perform(actions, process)
    }

    private func perform(_ actions: [Core.Action], _ process: SupervisorProcess) {
        for action in actions {
            switch action {
            case .admit(let ticket): settings.admit(ticket, to: self, process)
            case .start(let ticket, let key): start(ticket, key, process)
            case .stop(let child): process.terminate(child.slot, entry: child.entry)
            case .announceLeaving: settings.announceLeaving()
            case .freePlace(let wasLeaving): settings.freePlace(wasLeaving: wasLeaving)
            case .resume(let waiter, let outcome): resume(waiter, outcome, process)
            case .setTimer(let delay):
                let timer = process.environment.clock.schedule(after: delay) { [weak self, weak process] in
                    guard let self, let process else { return }
                    let now = process.environment.clock.now
                    self.handle(from: process) { core, actions in core.timerFired(at: now, &actions) }
                }
                let isOver = state.withLock { state in
                    guard state.process === process, state.core.isOpen else { return true }
                    state.timer = timer
                    return false
                }
                if isOver { timer.cancel() }
            }
        }
    }

    private func start(_ ticket: Core.Ticket, _ key: Key, _ process: SupervisorProcess) {
        let specification = settings.specification(of: key)
        if let problem = specification.problem(under: process.specification) {
            let reason = ExitReason.crashed(SupervisionError.invalidSpecification(problem))
            return handle(from: process) { core, actions in core.startFailed(ticket, .startFailed(reason), &actions) }
        }
        process.administer(.startChild(specification), bringing: specification) { [self] reply, administered in
            let now = process.environment.clock.now
            let use = settings.nextUse()
            handle(from: process) { core, actions in
                switch reply {
                case .started(let slot):
                    let child = Core.Child(slot: slot, entry: administered?.entry ?? 0)
                    core.started(ticket, child, at: now, use: use, &actions)
                case .ignored: core.startFailed(ticket, .ignored, &actions)
                case .startFailed(let reason): core.startFailed(ticket, .startFailed(reason), &actions)
                case .done, .alreadyStarted, .alreadyPresent, .tooManyChildren, .notFound, .running, .restarting,
                    .noProcess, .cancelled:
                    core.startFailed(ticket, .closed, &actions)
                }
            }
        }
    }

    private func resume(_ waiter: Core.Waiter, _ outcome: Core.Outcome, _ process: SupervisorProcess) {
        let once = state.withLock { $0.waiters.removeValue(forKey: waiter) }
        if once?.set(.outcome(outcome, process)) == true { return }
        // The call had stopped waiting before the outcome arrived.
        if case .lease(let lease) = outcome { release(Leased(lease: lease, process: process)) }
    }

    // MARK: - Places

    func admitted(_ ticket: Core.Ticket, _ process: SupervisorProcess) {
        var actions: [Core.Action] = []
        let isCurrent = state.withLock { state in
            guard state.process === process else { return false }
            state.core.admitted(ticket, &actions)
            return true
        }
        if isCurrent { perform(actions, process) } else { settings.freePlace(wasLeaving: false) }
    }

    func refused(_ ticket: Core.Ticket, _ process: SupervisorProcess) {
        handle(from: process) { core, actions in core.refused(ticket, &actions) }
    }

    var oldestIdle: (ticket: Core.Ticket, use: UInt64)? { state.withLock { $0.core.oldestIdle } }

    func evict(_ ticket: Core.Ticket) -> Bool {
        var actions: [Core.Action] = []
        let (isEvicted, process) = state.withLock { state in (state.core.evict(ticket, &actions), state.process) }
        if let process { perform(actions, process) }
        return isEvicted
    }
}
