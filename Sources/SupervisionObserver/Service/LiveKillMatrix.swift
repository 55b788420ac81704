import Supervision

/// Kills the processes of a running tree one after the other, each when the tree has settled, and records the effects.
///
/// It kills nothing that would make a supervisor give up: if the restart intensity is used up, it waits, and it skips supervisors that
/// allow no restart at all. The root is skipped, because nothing here would restart it.
struct LiveKillMatrix {
    struct Step: Sendable {
        var path: String
        var key: String
        var outcome: String
        var isFine: Bool
    }

    struct Report: Sendable {
        var steps: [Step] = []

        var isFine: Bool { steps.allSatisfy(\.isFine) }

        var summary: String {
            let bad = steps.count { !$0.isFine }
            return
                "\(steps.count) processes, \(bad == 0 ? "all as their specifications say" : "\(bad) not as they should be")"
        }
    }

    /// The maximum number of processes to kill.
    static let maximumSteps = 200

    private let supervisor: Supervisor
    /// The time limit for a tree to settle, and for the wait for a restart to be allowed.
    private let timeout: Duration

    init(_ supervisor: Supervisor, timeout: Duration = .seconds(30)) {
        self.supervisor = supervisor
        self.timeout = timeout
    }

    func play(onStep: (Step) -> Void) async -> Report {
        var report = Report()
        guard let first = supervisor.snapshot() else { return report }
        let keys = first.nodes.indices.dropFirst().filter { first.nodes[$0].pid != nil }.map { first.path($0) }
        for key in keys.prefix(Self.maximumSteps) {
            guard let step = await kill(key) else { continue }
            report.steps.append(step)
            onStep(step)
            if Task.isCancelled || supervisor.snapshot() == nil { break }
        }
        return report
    }

    private func kill(_ key: String) async -> Step? {
        guard await settles(), await hasRoom(key) else {
            return step(key, "left out: its supervisor allows no more restarts now", isFine: true)
        }
        guard let before = supervisor.snapshot(), let index = before.index(of: key), let pid = before.nodes[index].pid
        else { return nil }
        let path = before.path(index)
        let restart = supervisor.inspect(key, limit: 0)?.restart
        pid.kill()
        _ = await pid.exited()
        guard await settles() else {
            return Step(path: path, key: key, outcome: "killed \(pid); the tree did not settle", isFine: false)
        }
        guard let after = supervisor.snapshot() else {
            return Step(path: path, key: key, outcome: "killed \(pid); the whole tree ended", isFine: false)
        }
        let new = after.index(of: key).flatMap { after.nodes[$0].pid }
        let others = replaced(before, after, without: index)
        let along = others == 0 ? "" : others == 1 ? ", and one process with it" : ", and \(others) processes with it"
        let (outcome, isFine): (String, Bool) =
            if let new, new != pid {
                ("restarted as \(new)", true)
            } else {
                switch restart {
                case .temporary: new == nil ? ("it is temporary and stays down", true) : ("it was not restarted", false)
                case .permanent, .transient, nil: ("it was not restarted", false)
                }
            }
        return Step(path: path, key: key, outcome: "killed \(pid); \(outcome)\(along)", isFine: isFine)
    }

    private func step(_ key: String, _ outcome: String, isFine: Bool) -> Step? {
        guard let snapshot = supervisor.snapshot(), let index = snapshot.index(of: key) else { return nil }
        return Step(path: snapshot.path(index), key: key, outcome: outcome, isFine: isFine)
    }

    /// The number of other processes with a new incarnation, or none.
    private func replaced(_ before: TreeSnapshot, _ after: TreeSnapshot, without index: Int) -> Int {
        let living = Set(after.nodes.compactMap(\.pid))
        return before.nodes.indices.count { other in
            guard other != index, let pid = before.nodes[other].pid else { return false }
            return !living.contains(pid)
        }
    }

    private func settles() async -> Bool {
        await within(timeout) { await supervisor.testing.settled() } ?? false
    }

    /// Whether the parent supervisor may restart it once more without giving up, now or soon.
    private func hasRoom(_ key: String) async -> Bool {
        let deadline = ContinuousClock.now + timeout
        while ContinuousClock.now < deadline {
            guard let snapshot = supervisor.snapshot(), let index = snapshot.index(of: key),
                let parent = snapshot.nodes[index].parent, let window = snapshot.nodes[parent].window
            else { return true }
            if window.used < window.intensity.restarts { return true }
            guard window.intensity.restarts > 0, window.intensity.period < timeout else { return false }
            try? await Task.sleep(for: .milliseconds(100))
            if Task.isCancelled { return false }
        }
        return false
    }
}

/// The result; `nil` after the time limit.
private func within<Result: Sendable>(
    _ timeout: Duration,
    _ body: @escaping @Sendable () async -> Result
) async -> Result? {
    await withTaskGroup(of: Result?.self) { group in
        group.addTask { await body() }
        group.addTask {
            try? await Task.sleep(for: timeout)
            return nil
        }
        defer { group.cancelAll() }
        return await group.next() ?? nil
    }
}
