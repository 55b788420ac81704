/// What tests do to a live tree: inject faults, simulate hangs, wait until it settles, and look for what it left behind.
///
/// Everything that the library has only for tests is behind this protocol. Only `SupervisionTesting` and the kill matrix of
/// `SupervisionObserver` use it. The tree has two hooks for it: ``FaultInjection`` and ``SimulatedHang``.
package protocol TreeTesting: Sendable {
    // MARK: Looking

    /// Every position of the running tree, the root first, in start order; empty when the tree is not running.
    func descriptions() -> [ProcessDescription]
    /// Every process of the tree with its path, the root first.
    func processes() -> [(path: String, pid: Pid, isSupervisor: Bool)]
    /// Whether the tree makes no progress until time passes: everything under way is a delayed restart or a simulated hang.
    var waitsForTime: Bool { get }
    /// Waits until nothing is under way in the tree: no supervisor is working, and no process is exiting. With `includingDelays` it also
    /// waits for delayed restarts. Does not poll. False when the waiting task is cancelled first.
    func settled(includingDelays: Bool) async -> Bool
    /// Increases whenever a task or a process of the tree begins or ends.
    var progress: Int { get }

    // MARK: What is left behind

    /// The number of running tasks that the library started for this tree.
    var runningTasks: Int { get }
    /// The number of incarnations of children that have neither ended nor been abandoned.
    var livingProcesses: Int { get }
    /// The abandoned incarnations that are still running, also after the tree has ended.
    func zombies() -> [AbandonedChild]
    /// Starts to record abandoned incarnations.
    func rememberAbandoned()
    /// The number of incarnations that have been abandoned without a simulated hang.
    var stubborn: Int { get }
    /// The keys of the incarnations that were abandoned without a simulated hang since the last call.
    func takeAbandoned() -> [String]

    // MARK: Faults

    /// Makes the next `times` starts of the process with this key fail before its start closure is called.
    func failStarts(of key: String, times: Int)
    /// Lets the starts of the process with this key succeed again.
    func stopFailing(_ key: String)
    /// The number of starts that have failed since ``failStarts(of:times:)``.
    func failedStarts(of key: String) -> Int
    /// Crashes the process with this error; the process cannot decline.
    func crash(_ pid: Pid, _ error: any Error)
    /// Ends the process as if its `run()` had returned. A supervisor stops its children in order and ends normally.
    func endNormally(_ pid: Pid)
    /// Makes a process hang: stops and cancellations do not reach it, and its exit is withheld, so that its supervisor has to abandon it.
    /// Nothing is blocked. For a supervisor, every child below it hangs.
    func hang(_ pid: Pid)
    /// Ends all simulated hangs: the processes receive the stop and the cancellation that were withheld.
    func releaseHung()
}

extension TreeTesting {
    /// Waits until nothing is under way in the tree except delayed restarts.
    package func settled() async -> Bool { await settled(includingDelays: false) }
}

extension Supervisor {
    /// The running tree, for tests. It can be used after the tree has ended; it shows nothing of a tree that is not running.
    package var testing: any TreeTesting { TestedTree(supervisor: self, environment: current?.environment) }
}

/// A tree as tests see it.
private struct TestedTree: TreeTesting {
    let supervisor: Supervisor
    let environment: TreeEnvironment?

    func descriptions() -> [ProcessDescription] { supervisor.descriptions() }
    func processes() -> [(path: String, pid: Pid, isSupervisor: Bool)] { supervisor.processes() }
    var waitsForTime: Bool { supervisor.waitsForTime }
    func settled(includingDelays: Bool) async -> Bool { await supervisor.settled(includingDelays: includingDelays) }
    var progress: Int { environment?.faults.progress ?? 0 }

    var runningTasks: Int { environment?.faults.tasks ?? 0 }
    var livingProcesses: Int { environment?.faults.processes ?? 0 }
    func zombies() -> [AbandonedChild] { environment.map { $0.zombies.list(at: $0.clock.now) } ?? [] }
    func rememberAbandoned() { environment?.faults.arm() }
    var stubborn: Int { environment?.faults.stubborn ?? 0 }
    func takeAbandoned() -> [String] { environment?.faults.takeAbandoned() ?? [] }

    func failStarts(of key: String, times: Int) { environment?.faults.failStarts(of: key, times: times) }
    func stopFailing(_ key: String) { environment?.faults.stopFailing(key) }
    func failedStarts(of key: String) -> Int { environment?.faults.failedStarts(of: key) ?? 0 }
    func crash(_ pid: Pid, _ error: any Error) { pid.crash(error) }
    func endNormally(_ pid: Pid) { pid.process.send(.finish) }
    func hang(_ pid: Pid) { hang(pid.process) }

    private func hang(_ process: Process) {
        process.child?.hang()
        for (_, _, incarnation, _) in process.supervisor?.snapshot() ?? [] {
            if let incarnation { hang(incarnation.pid.process) }
        }
    }

    func releaseHung() { environment?.faults.releaseHung() }
}
