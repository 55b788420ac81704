import ConcurrencyPrimitives
import Supervision

/// A running supervision tree, for tests that end its processes.
///
///     let tree = LiveTree(supervisor)
///     for process in tree.processes {
///         try tree.end(process.path, by: .kill)
///         try await tree.settled()
///         // look at what your users would see
///     }
public struct LiveTree: Sendable {
    /// One process of the tree.
    public struct Process: Sendable {
        /// The names from the root down, separated by `/`.
        public var path: String
        /// The incarnation.
        public var pid: Pid
        /// Whether it is a supervisor.
        public var isSupervisor: Bool
    }

    /// How a process is ended.
    public enum Ending: Sendable {
        /// `Pid.kill()`: it is fenced off and cancelled, and its kill hook runs.
        case kill
        /// It crashes with this error, or ``Crash``, and cannot decline. A supervisor stops its children in order first.
        case crash((any Error)? = nil)
        /// It is asked to stop with `ExitReason.shutdown(cause:)`, as by an administrator.
        case shutdown
    }

    /// The error of a process that a test has crashed.
    public struct Crash: Error, Equatable {}

    /// Why a test could not continue.
    public enum Failure: Error, Sendable, Equatable {
        /// The tree has no living process with this path. The living ones are listed.
        case noSuchProcess(path: String, living: [String])
        /// Something was still under way in the tree after this time.
        case notSettled(after: Duration, tree: String)
    }

    /// The root.
    public let supervisor: Supervisor

    /// Creates a tree from this started supervisor.
    public init(_ supervisor: Supervisor) {
        self.supervisor = supervisor
    }

    /// All current processes, the root first, in start order.
    public var processes: [Process] {
        supervisor.testing.processes().map { Process(path: $0.path, pid: $0.pid, isSupervisor: $0.isSupervisor) }
    }

    /// The process at a path, which begins with the root's name.
    public func process(_ path: String) throws(Failure) -> Process {
        let processes = processes
        guard let process = processes.first(where: { $0.path == path && $0.pid.isAlive }) else {
            throw .noSuchProcess(path: path, living: processes.map(\.path))
        }
        return process
    }

    /// Ends the process at this path. Returns immediately, with the incarnation that was hit.
    @discardableResult
    public func end(_ path: String, by ending: Ending = .kill) throws(Failure) -> Pid {
        let pid = try process(path).pid
        switch ending {
        case .kill: pid.kill()
        case .crash(let error): supervisor.testing.crash(pid, error ?? Crash())
        case .shutdown: pid.exit(.shutdown())
        }
        return pid
    }

    /// Waits until the tree does nothing but wait for time to pass: every exit is handled, and every restart done or delayed by a backoff
    /// or a cooldown. The tree signals this; `timeout` is only for a tree that never settles.
    ///
    /// A child that waits for a backoff does not exist yet. Advance the ``ManualClock`` and wait again, or wait with
    /// ``restarted(within:)``.
    public func settled(within timeout: Duration = .seconds(30)) async throws {
        try await settled(includingDelays: false, within: timeout)
    }

    /// Waits until nothing is under way in the tree and no restart waits for its delay, so that every restarted child is running. For trees
    /// on a real clock.
    public func restarted(within timeout: Duration = .seconds(30)) async throws {
        try await settled(includingDelays: true, within: timeout)
    }

    private func settled(includingDelays: Bool, within timeout: Duration) async throws {
        let isSettled = await withTaskGroup(of: Bool.self) { group in
            group.addTask { await supervisor.testing.settled(includingDelays: includingDelays) }
            group.addTask {
                try? await Task.sleep(for: timeout.clamped)
                return false
            }
            defer { group.cancelAll() }
            return await group.next() ?? false
        }
        guard isSettled else { throw Failure.notSettled(after: timeout.clamped, tree: supervisor.tree().description) }
    }
}
