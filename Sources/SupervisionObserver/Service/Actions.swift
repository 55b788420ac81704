import AMQPPool
import ConcurrencyPrimitives
import Supervision
import Synchronization

/// Performs the actions of viewers, whose permission has been checked before.
final class Actions: Sendable {
    private let observation: Observation
    /// The running kill matrices, by tree; `nil` for one that is about to begin.
    private let playing = Mutex<[Int: Task<Void, Never>?]>([:])

    init(_ observation: Observation) {
        self.observation = observation
    }

    func perform(_ request: ActionRequest) async throws(Refusal) -> ActionResult {
        guard observation.trees.indices.contains(request.tree) else {
            throw Refusal("there is no tree \(request.tree)")
        }
        if request.action == .killMatrix { return try beginKillMatrix(request.tree) }
        let target = try target(of: request)
        observation.record(
            tree: request.tree,
            path: target.path,
            key: target.key,
            kind: "action",
            reason: "\(request.action.rawValue) \(target.node.pid.map { "\($0)" } ?? "")",
            isExpected: false
        )
        switch request.action {
        case .kill:
            try target.pid().kill()
            return ActionResult(done: "killed \(target.path)")
        case .exit:
            try target.pid().exit(.shutdown())
            return ActionResult(done: "asked \(target.path) to end")
        case .restart: return try await restart(target)
        case .terminate: return try await terminate(target)
        case .pause: return try await setPaused(true, target)
        case .resume: return try await setPaused(false, target)
        case .killMatrix: return try beginKillMatrix(request.tree)
        }
    }

    // MARK: The target

    private struct Target {
        var tree: Observation.Tree
        var snapshot: TreeSnapshot
        var index: Int
        var path: String
        var key: String

        var node: TreeSnapshot.Node { snapshot.nodes[index] }

        func pid() throws(Refusal) -> Pid {
            guard let pid = node.pid, pid.isAlive else { throw Refusal("\(path) has no process now") }
            return pid
        }

        /// The parent supervisor, and the child's id there; `nil` for the root.
        func parent() throws(Refusal) -> (SupervisorReference, isDynamic: Bool)? {
            guard let parent = node.parent else { return nil }
            let supervisor = snapshot.nodes[parent]
            guard let pid = supervisor.pid, let reference = SupervisorReference(pid) else {
                throw Refusal("the supervisor of \(path) is being restarted")
            }
            return (reference, supervisor.kind == .dynamicSupervisor)
        }
    }

    private func target(of request: ActionRequest) throws(Refusal) -> Target {
        guard let snapshot = observation.freshSnapshot(request.tree), let key = request.key,
            let index = snapshot.index(of: key)
        else { throw Refusal("there is no such process any more") }
        let path = DisplayText.line(snapshot.path(index), limit: 1000)
        if let pid = request.pid, snapshot.nodes[index].pid.map({ "\($0)" }) != pid {
            throw Refusal("\(path) is another process by now: \(pid) has ended")
        }
        return Target(
            tree: observation.trees[request.tree],
            snapshot: snapshot,
            index: index,
            path: path,
            key: key
        )
    }

    // MARK: Restart and terminate

    /// Stops it in order and starts it again, which its supervisor does not count as a failure.
    private func restart(_ target: Target) async throws(Refusal) -> ActionResult {
        guard let (supervisor, isDynamic) = try target.parent() else {
            throw Refusal("the root of a tree can be restarted only by the program that runs it")
        }
        if isDynamic {
            throw Refusal(
                "a child of a dynamic supervisor is not stopped and started: exit ends it, and its kind says whether it comes back"
            )
        }
        do throws(AdministrationError) {
            try await supervisor.terminateChild(target.node.id)
            _ = try await supervisor.restartChild(target.node.id)
            return ActionResult(done: "restarted \(target.path)")
        } catch {
            throw Refusal(DisplayText.line("\(error)"))
        }
    }

    private func terminate(_ target: Target) async throws(Refusal) -> ActionResult {
        guard let (supervisor, isDynamic) = try target.parent() else {
            throw Refusal("the root of a tree can be stopped only by the program that runs it")
        }
        do throws(AdministrationError) {
            if isDynamic {
                guard let pid = target.node.pid else { throw AdministrationError.notFound(child: target.path) }
                try await supervisor.terminateChild(pid)
            } else {
                try await supervisor.terminateChild(target.node.id)
            }
            return ActionResult(done: "terminated \(target.path)")
        } catch {
            throw Refusal(DisplayText.line("\(error)"))
        }
    }

    // MARK: Pause and resume

    /// A pause applies to this incarnation only: the next one works.
    private func setPaused(_ isPaused: Bool, _ target: Target) async throws(Refusal) -> ActionResult {
        guard let worker = try target.pid().actor as? any ObservableWorker else {
            throw Refusal("\(target.path) is not a queue worker: only those can be paused")
        }
        // It stops starting messages immediately, which is awaited below; notifying the broker may take longer, or fail.
        Task.detached { if isPaused { await worker.pause() } else { await worker.resume() } }
        let deadline = ContinuousClock.now + .seconds(5)
        while worker.look().deliveries.isPaused != isPaused {
            guard ContinuousClock.now < deadline else {
                throw Refusal("\(target.path) does not answer: it may still be \(isPaused ? "paused" : "resumed")")
            }
            try? await Task.sleep(for: .milliseconds(5))
        }
        return ActionResult(done: "\(isPaused ? "paused" : "resumed") \(target.path)")
    }

    // MARK: The kill matrix

    /// Runs until the task is cancelled. Then no kill matrix continues, and running ones have ended their step.
    func run() async {
        _ = await OneShot<Void>().wait()
        let tasks = playing.withLock { $0.values.compactMap { $0 } }
        for task in tasks { task.cancel() }
        for task in tasks { await task.value }
    }

    private func beginKillMatrix(_ tree: Int) throws(Refusal) -> ActionResult {
        guard observation.trees[tree].mayPlayKillMatrix else {
            throw Refusal("this tree does not allow a kill matrix: it is not among the observer's killMatrix trees")
        }
        guard observation.trees[tree].supervisor.snapshot() != nil else { throw Refusal("the tree is not running") }
        let isFirst = playing.withLock { playing in
            guard !playing.keys.contains(tree) else { return false }
            playing.updateValue(nil, forKey: tree)
            return true
        }
        guard isFirst else { throw Refusal("a kill matrix is already running") }
        let task = Task.detached { [self] in
            let matrix = LiveKillMatrix(observation.trees[tree].supervisor)
            let report = await matrix.play { step in
                observation.record(
                    tree: tree,
                    path: DisplayText.line(step.path, limit: 1000),
                    key: step.key,
                    kind: "kill matrix",
                    reason: step.outcome,
                    isExpected: step.isFine
                )
            }
            observation.record(
                tree: tree,
                path: DisplayText.line(observation.trees[tree].name),
                key: observation.trees[tree].name,
                kind: "kill matrix",
                reason: report.summary,
                isExpected: report.isFine
            )
            playing.withLock { _ = $0.removeValue(forKey: tree) }
        }
        playing.withLock { playing in
            if playing.keys.contains(tree) { playing.updateValue(task, forKey: tree) }
        }
        return ActionResult(done: "the kill matrix is running: each step is in the time line")
    }
}
