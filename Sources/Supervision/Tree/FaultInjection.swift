import Synchronization

/// The failure of a start that a test made fail.
package struct InjectedFault: Error, CustomStringConvertible {
    package init() {}

    package var description: String { "a fault injected by a test" }
}

/// What a test does to the processes of one tree, and what is counted for it: see the product `SupervisionTesting`.
///
/// While nothing is injected it costs one load at each start, and a few additions in the life of a process.
package final class FaultInjection: Sendable {
    private struct State {
        var failing: [String: Int] = [:]
        var failed: [String: Int] = [:]
        var hung: [ChildProcess] = []
        var abandoned: [(key: String, isHung: Bool)] = []
        var stubborn = 0
    }

    private let isArmed = Atomic<Bool>(false)
    private let state = Mutex(State())
    private let runningTasks = Atomic<Int>(0)
    private let livingProcesses = Atomic<Int>(0)
    private let progressCount = Atomic<Int>(0)

    /// From here on abandoned incarnations are remembered.
    package func arm() {
        isArmed.store(true, ordering: .releasing)
    }

    /// How many tasks that the library started for this tree have not ended.
    package var tasks: Int { runningTasks.load(ordering: .acquiring) }

    /// How many incarnations of children have not ended, or been abandoned.
    package var processes: Int { livingProcesses.load(ordering: .acquiring) }

    /// Grows whenever the tree gets on: a task or a process of it began or ended.
    package var progress: Int { progressCount.load(ordering: .relaxed) }

    func taskBegan() {
        runningTasks.add(1, ordering: .relaxed)
        progressCount.add(1, ordering: .relaxed)
    }

    func taskEnded() {
        progressCount.add(1, ordering: .relaxed)
        runningTasks.subtract(1, ordering: .releasing)
    }

    func processBegan() {
        livingProcesses.add(1, ordering: .relaxed)
        progressCount.add(1, ordering: .relaxed)
    }

    func processEnded() {
        progressCount.add(1, ordering: .relaxed)
        livingProcesses.subtract(1, ordering: .releasing)
    }

    // MARK: - Starts that fail

    /// The next `times` starts of the process with this key fail before its start closure is called.
    package func failStarts(of key: String, times: Int) {
        arm()
        state.withLock { state in
            state.failing[key] = times
            state.failed[key] = 0
        }
    }

    /// Starts succeed again.
    package func stopFailing(_ key: String) {
        state.withLock { _ = $0.failing.removeValue(forKey: key) }
    }

    /// How many starts have failed since ``failStarts(of:times:)``.
    package func failedStarts(of key: String) -> Int { state.withLock { $0.failed[key] ?? 0 } }

    func takeFault(_ key: @autoclosure () -> String) -> InjectedFault? {
        guard isArmed.load(ordering: .acquiring) else { return nil }
        let key = key()
        return state.withLock { state in
            guard let left = state.failing[key], left > 0 else { return nil }
            state.failing[key] = left - 1
            state.failed[key, default: 0] += 1
            return InjectedFault()
        }
    }

    // MARK: - Processes that hang

    func hung(_ child: ChildProcess) {
        arm()
        state.withLock { $0.hung.append(child) }
    }

    /// Ends what was made to hang: it hears of the stop and the cancellation that were kept from it.
    package func releaseHung() {
        let hung = state.withLock { state in
            defer { state.hung = [] }
            return state.hung
        }
        for child in hung { child.recover() }
    }

    func abandoned(_ child: ChildProcess) {
        guard isArmed.load(ordering: .acquiring) else { return }
        let key = child.key
        state.withLock { state in
            let isHung = state.hung.contains { $0 === child }
            state.abandoned.append((key, isHung))
            if !isHung { state.stubborn += 1 }
        }
    }

    /// How many incarnations have been abandoned so far although nobody made them hang.
    package var stubborn: Int { state.withLock { $0.stubborn } }

    /// The keys of the incarnations that were abandoned since the last call although nobody made them hang.
    package func takeAbandoned() -> [String] {
        state.withLock { state in
            defer { state.abandoned = [] }
            return state.abandoned.filter { !$0.isHung }.map(\.key)
        }
    }
}

extension SupervisorProcess {
    /// The place in the tree, the same for all incarnations.
    var key: String {
        guard let link else { return specification.name }
        return link.owner.key(of: specification.name, link.slot)
    }

    func key(of id: String, _ slot: SupervisorCore.Slot) -> String {
        if case .dynamic = specification.kind { return "\(key)/\(id)@\(slot)" }
        return "\(key)/\(id)"
    }
}

extension ChildProcess {
    var key: String { owner.key(of: specification.id, slot) }
}

extension Pid {
    /// Ends the process as if its `run()` had returned. A supervisor stops its children in order and ends normally.
    package func endNormally() {
        process.send(.finish)
    }

    /// Makes a worker deaf: it hears of no stop and no cancellation, and its end is withheld, so that whoever stops it has to
    /// abandon it. Nothing is blocked. Of a supervisor, every worker below it.
    package func hang() {
        process.send(.hang)
    }
}

extension Supervisor {
    /// What can be injected into the running tree, `nil` when it is not running. It outlives the tree.
    package var faults: FaultInjection? { current?.environment.faults }

    /// The incarnations that were left behind and still run, also after the tree has ended.
    package var zombies: (@Sendable () -> [AbandonedChild])? {
        guard let environment = current?.environment else { return nil }
        return { environment.zombies.list(at: environment.clock.now) }
    }
}
