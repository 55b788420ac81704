/// The inspectable state of one process.
package struct ProcessInspection: Sendable {
    /// The contents of its specification, in display order.
    package var specification: [(name: String, value: String)] = []
    /// When its supervisor restarts it; `nil` for the root.
    package var restart: Restart?
    /// The living incarnation.
    package var pid: Pid?
    /// The linked processes.
    package var links: [Pid] = []
    /// The number of processes and callers that monitor it.
    package var monitors = 0
    /// Its names in the registries of its tree, each with its registry.
    package var names: [(registry: String, name: String)] = []
    /// Whether its actor is ``StateReporting``.
    package var reportsState = false

    package init() {}
}

extension Supervisor {
    /// Inspects the process at a path of the running tree.
    ///
    /// - Parameter limit: The maximum number of links and names to list.
    package func inspect(_ path: String, limit: Int = 100) -> ProcessInspection? {
        guard let current else { return nil }
        var parts = path.split(separator: "/", omittingEmptySubsequences: false)[...]
        var supervisor = current
        guard let first = parts.popFirst(), first == current.specification.name else { return nil }
        guard !parts.isEmpty else { return supervisor.inspection(of: nil, limit: limit) }
        while let part = parts.popFirst() {
            let found = supervisor.snapshot().first { child, _, _, childRecord in
                supervisor.name(of: child.id, childRecord.entry) == part
            }
            guard let (child, _, incarnation, _) = found else { return nil }
            guard !parts.isEmpty else {
                var inspection = ProcessInspection()
                if case .supervisor(let process)? = incarnation, process.process.isAlive {
                    inspection = process.inspection(of: child, limit: limit)
                } else {
                    inspection.specification = child.lines
                    if let incarnation, incarnation.pid.isAlive {
                        inspection.look(at: incarnation.pid.process, in: current, limit: limit)
                        if case .child(let process) = incarnation {
                            inspection.reportsState = process.actor is any StateReporting
                        }
                    }
                }
                inspection.restart = child.restart
                return inspection
            }
            guard case .supervisor(let next)? = incarnation else { return nil }
            supervisor = next
        }
        return nil
    }
}

extension Pid {
    /// The actor of this incarnation; `nil` for a supervisor, before the start, and after the end.
    package var actor: (any Actor)? { process.child?.actor }
}

extension SupervisorReference {
    /// The supervisor with this pid; `nil` if it is a worker, or has ended.
    package init?(_ pid: Pid) {
        guard let supervisor = pid.process.supervisor else { return nil }
        self.init(process: supervisor)
    }

    /// Stops a child of a dynamic supervisor: see ``DynamicSupervisorReference/terminateChild(_:)``.
    package func terminateChild(_ pid: Pid) async throws(AdministrationError) {
        let place = pid.process.place
        guard place.owner == process.process.number else { throw .notFound(child: "\(path)/\(pid)") }
        let (reply, _) = await process.administer(.terminateSlot(place.slot, generation: place.generation))
        try process.check(reply, "\(pid)")
    }
}

extension ProcessInspection {
    fileprivate mutating func look(at process: Process, in root: SupervisorProcess, limit: Int) {
        let pid = Pid(process: process)
        self.pid = pid
        (links, monitors) = process.relations(limit: limit)
        for (path, keeper) in root.nameKeepers where names.count < limit {
            names += keeper.names(of: pid, limit: limit - names.count).map { (path, $0) }
        }
    }
}

extension SupervisorProcess {
    fileprivate func inspection(of child: ChildSpecification?, limit: Int) -> ProcessInspection {
        var inspection = ProcessInspection()
        inspection.specification = specification.lines + (child?.lines ?? [])
        var root = self
        while let parent = root.parent { root = parent }
        inspection.look(at: process, in: root, limit: limit)
        return inspection
    }

    /// The registries of the tree.
    fileprivate var nameKeepers: [(path: String, keeper: any NameKeeping)] {
        var result: [(path: String, keeper: any NameKeeping)] = []
        var waiting = [self]
        while let next = waiting.popLast() {
            for (child, _, incarnation, childRecord) in next.snapshot() {
                switch incarnation {
                case .supervisor(let supervisor)?: waiting.append(supervisor)
                case .child(let process)?:
                    // Checked before the actor is read, which takes a lock, because there may be very many children.
                    guard case .actor(let body) = child.kind, body.type is any NameKeeping.Type else { continue }
                    guard let keeper = process.actor as? any NameKeeping else { continue }
                    result.append((next.path(of: child.id, childRecord.entry), keeper))
                case nil: continue
                }
            }
        }
        return result
    }
}

extension SupervisorSpecification {
    fileprivate var lines: [(name: String, value: String)] {
        var lines: [(name: String, value: String)] = []
        switch kind {
        case .ordered(let strategy): lines.append(("strategy", strategy.word))
        case .dynamic(let maximum):
            lines.append(("strategy", "dynamic"))
            lines.append(("maximum children", maximum.map { "\($0)" } ?? "any number"))
        }
        lines.append(("restart intensity", "\(intensity.restarts) within \(intensity.period)"))
        switch whenExceeded {
        case .escalate: lines.append(("when exceeded", "gives up"))
        case .cooldown(let pause): lines.append(("when exceeded", "cools down for \(pause)"))
        }
        switch autoShutdown {
        case .never: break
        case .anySignificant: lines.append(("automatic shutdown", "when any significant child has ended"))
        case .allSignificant: lines.append(("automatic shutdown", "when all significant children have ended"))
        }
        return lines
    }
}

extension ChildSpecification {
    fileprivate var lines: [(name: String, value: String)] {
        var lines: [(name: String, value: String)] = []
        switch restart {
        case .permanent: lines.append(("restart", "permanent"))
        case .transient: lines.append(("restart", "transient"))
        case .temporary: lines.append(("restart", "temporary"))
        }
        switch shutdown {
        case .brutalKill: lines.append(("shutdown", "brutal kill"))
        case .timeout(let time): lines.append(("shutdown", "\(time)"))
        case .infinity: lines.append(("shutdown", "infinity"))
        }
        if case .actor(let body) = kind {
            lines.append(("type", String(describing: body.type)))
            lines.append(("run", body.run == nil ? "no: an actor that is called" : "yes"))
            lines.append(("kill timeout", "\(policy.options.killTimeout)"))
            switch policy.options.onUnstoppable {
            case .abandon: lines.append(("when unstoppable", "is abandoned"))
            case .escalate: lines.append(("when unstoppable", "its supervisor ends"))
            case .crashProcess: lines.append(("when unstoppable", "the OS process ends"))
            }
        }
        if isSignificant { lines.append(("significant", "yes")) }
        if let backoff {
            lines.append(("backoff", "\(backoff.minimum) to \(backoff.maximum), times \(backoff.factor)"))
        }
        if let timeout = policy.options.startTimeout { lines.append(("start timeout", "\(timeout)")) }
        if let limit = policy.options.heartbeatTimeout { lines.append(("heartbeat timeout", "\(limit)")) }
        return lines
    }
}

extension Strategy {
    fileprivate var word: String {
        switch self {
        case .oneForOne: "one_for_one"
        case .oneForAll: "one_for_all"
        case .restForOne: "rest_for_one"
        }
    }
}
