import Synchronization

/// The error of a start that a test made fail.
struct InjectedFault: Error, CustomStringConvertible {
    var description: String { "a fault injected by a test" }
}

/// The faults that a test injects into one tree, and the counts for its assertions: see the product `SupervisionTesting`.
///
/// Without injected faults it costs one atomic load per start, and a few additions in the life of a process.
final class FaultInjection: Sendable {
    private struct State {
        var failing: [String: Int] = [:]
        var failed: [String: Int] = [:]
        var hung: [ChildProcess] = []
        var abandoned: [(key: String, isHung: Bool)] = []
        var stubborn = 0
    }

    /// Whether the common cases are decided in one step. A test turns it off for the trees that it makes, to compare both paths.
    @TaskLocal
    package static var decidesDirectly = true

    let decidesDirectly = FaultInjection.decidesDirectly

    private let isArmed = Atomic<Bool>(false)
    private let state = Mutex(State())
    private let runningTasks = Atomic<Int>(0)
    private let livingProcesses = Atomic<Int>(0)
    private let progressCount = Atomic<Int>(0)

    /// Starts to record abandoned incarnations.
    func arm() {
        isArmed.store(true, ordering: .releasing)
    }

    /// The number of running tasks that the library started for this tree.
    var tasks: Int { runningTasks.load(ordering: .acquiring) }

    /// The number of incarnations of children that have neither ended nor been abandoned.
    var processes: Int { livingProcesses.load(ordering: .acquiring) }

    /// Increases whenever a task or a process of the tree begins or ends.
    var progress: Int { progressCount.load(ordering: .relaxed) }

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

    // MARK: - Failing starts

    /// Makes the next `times` starts of the process with this key fail before its start closure is called.
    func failStarts(of key: String, times: Int) {
        arm()
        state.withLock { state in
            state.failing[key] = times
            state.failed[key] = 0
        }
    }

    /// Lets the starts of the process with this key succeed again.
    func stopFailing(_ key: String) {
        state.withLock { _ = $0.failing.removeValue(forKey: key) }
    }

    /// The number of starts that have failed since ``failStarts(of:times:)``.
    func failedStarts(of key: String) -> Int { state.withLock { $0.failed[key] ?? 0 } }

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

    // MARK: - Simulated hangs

    func hung(_ child: ChildProcess) {
        arm()
        state.withLock { $0.hung.append(child) }
    }

    /// Ends all simulated hangs: the processes receive the stop and the cancellation that were withheld.
    func releaseHung() {
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

    /// The number of incarnations that have been abandoned without a simulated hang.
    var stubborn: Int { state.withLock { $0.stubborn } }

    /// The keys of the incarnations that were abandoned without a simulated hang since the last call.
    func takeAbandoned() -> [String] {
        state.withLock { state in
            defer { state.abandoned = [] }
            return state.abandoned.filter { !$0.isHung }.map(\.key)
        }
    }
}

extension SupervisorProcess {
    /// The position in the tree, the same for all incarnations.
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
