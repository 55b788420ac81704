/// What the products for tests ask of a live tree and do to it: fault injection, simulated hangs, settling, what was left behind.
///
/// All that the library has for tests only stands behind this protocol, and only `SupervisionTesting` and the kill matrix of
/// `SupervisionObserver` use it. The tree itself has one hook for it, ``FaultInjection``.
package protocol TreeTesting: Sendable {
    // MARK: Looking

    /// Every place of the running tree, the root first, in start order; none when it is not running.
    func descriptions() -> [ProcessDescription]
    /// The pid of every process in the tree with its path, the root's first.
    func processes() -> [(path: String, pid: Pid, isSupervisor: Bool)]
    /// Whether nothing goes on in the tree before time passes: all that is under way are restarts that were put off and
    /// incarnations that were made to hang.
    var waitsForTime: Bool { get }
    /// Waits until nothing is under way in the tree: no supervisor at work, no process on its way out. With `includingDelays` no
    /// restart waits for its delay either. An event, not a poll. False when the waiting task was cancelled before.
    func settled(includingDelays: Bool) async -> Bool
    /// Grows whenever the tree gets on: a task or a process of it began or ended.
    var progress: Int { get }

    // MARK: What is left behind

    /// How many tasks that the library started for this tree have not ended.
    var runningTasks: Int { get }
    /// How many incarnations of children have not ended, or been abandoned.
    var livingProcesses: Int { get }
    /// The incarnations that were left behind and still run, also after the tree has ended.
    func zombies() -> [AbandonedChild]
    /// From here on abandoned incarnations are remembered.
    func rememberAbandoned()
    /// How many incarnations have been abandoned so far although nobody made them hang.
    var stubborn: Int { get }
    /// The keys of the incarnations that were abandoned since the last call although nobody made them hang.
    func takeAbandoned() -> [String]

    // MARK: Faults

    /// The next `times` starts of the process with this key fail before its start closure is called.
    func failStarts(of key: String, times: Int)
    /// Starts succeed again.
    func stopFailing(_ key: String)
    /// How many starts have failed since ``failStarts(of:times:)``.
    func failedStarts(of key: String) -> Int
    /// Fails the process with this error, in a way it cannot decline.
    func crash(_ pid: Pid, _ error: any Error)
    /// Ends the process as if its `run()` had returned. A supervisor stops its children in order and ends normally.
    func endNormally(_ pid: Pid)
    /// Makes a worker deaf: it hears of no stop and no cancellation, and its end is withheld, so that whoever stops it has to
    /// abandon it. Nothing is blocked. Of a supervisor, every worker below it.
    func hang(_ pid: Pid)
    /// Ends what was made to hang: it hears of the stop and the cancellation that were kept from it.
    func releaseHung()
}

extension TreeTesting {
    /// Waits until nothing is under way in the tree but restarts that were put off.
    package func settled() async -> Bool { await settled(includingDelays: false) }
}

extension Supervisor {
    /// The running tree, for tests. It outlives the tree, and of one that does not run there is nothing to see.
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
