extension Supervisor {
    /// Waits until nothing is under way in the tree: no supervisor at work, no process on its way out. With `includingDelays` no
    /// restart waits for its delay either. An event, not a poll. False when the waiting task was cancelled before.
    package func settled(includingDelays: Bool = false) async -> Bool {
        guard let current else { return true }
        return await current.environment.activity.settled(includingDelays: includingDelays)
    }

    /// The pid of every process in the tree with its path, the root's first.
    package func processes() -> [(path: String, pid: Pid, isSupervisor: Bool)] {
        tree().nodes.compactMap { node in
            guard let pid = node.pid else { return nil }
            if case .supervisor = node.kind { return (node.path, pid, true) }
            return (node.path, pid, false)
        }
    }
}
