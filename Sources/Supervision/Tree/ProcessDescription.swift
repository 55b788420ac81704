/// One position in a running tree, with or without a process, and its specification.
package struct ProcessDescription: Sendable {
    package enum Kind: Sendable {
        case worker
        case supervisor(Strategy, AutoShutdown)
        case dynamicSupervisor
    }

    /// The position in the tree, the same for all incarnations.
    package var key: String
    package var path: String
    /// The key of the supervisor above, `nil` for the root.
    package var parent: String?
    package var kind: Kind
    /// The living incarnation.
    package var pid: Pid?
    /// Whether the child is part of its supervisor's static description, and so is started whenever the supervisor is.
    package var isDescribed: Bool
    package var restart: Restart
    package var isSignificant: Bool
    package var backoff: Backoff?
    package var onUnstoppable: OnUnstoppable
    /// Supervisors only.
    package var intensity = RestartIntensity(0, within: .seconds(1))
    package var whenExceeded = WhenExceeded.escalate
    /// Whether a child that exceeds the intensity is given up while its supervisor keeps running.
    package var givesUpChild = false

    package var isSupervisor: Bool {
        if case .worker = kind { return false }
        return true
    }
}

extension Supervisor {
    /// Every position of the running tree, the root first, in start order; empty when the tree is not running.
    func descriptions() -> [ProcessDescription] {
        guard let current else { return [] }
        var result: [ProcessDescription] = []
        var waiting = [Place.root(current)]
        while let place = waiting.popLast() {
            result.append(place.description)
            waiting.append(contentsOf: place.children.reversed())
        }
        return result
    }

    /// Whether the tree makes no progress until time passes: everything under way is a delayed restart or a simulated hang.
    var waitsForTime: Bool {
        guard let current else { return false }
        var waiting = [current]
        var waits = false
        while let next = waiting.popLast() {
            let children = next.snapshot()
            // A failed child of an ordered supervisor waits until the siblings in its group have stopped.
            let waitsForSiblings = next.isOrdered && children.contains { $0.1.isStopping }
            for (_, record, incarnation, _) in children {
                switch (record.status, incarnation) {
                case (.starting, .supervisor(let supervisor)?): waiting.append(supervisor)
                case (.starting, _), (.down, _): return false
                case (.stopped, _): continue
                case (.restarting, _):
                    if record.delay != nil { waits = true } else if !waitsForSiblings { return false }
                case (.running, .supervisor(let supervisor)?), (.stopping, .supervisor(let supervisor)?):
                    waiting.append(supervisor)
                case (.running, .child(let child)?), (.stopping, .child(let child)?):
                    switch child.exitProgress {
                    case .none where record.isStopping, .underWay: return false
                    case .none: continue
                    case .waitsForTime: waits = true
                    }
                case (.running, nil), (.stopping, nil): return false
                }
            }
        }
        return waits
    }
}

extension SupervisorProcess {
    fileprivate var isOrdered: Bool {
        switch specification.kind {
        case .ordered: true
        case .dynamic: false
        }
    }
}

extension SupervisorCore.Record {
    fileprivate var isStopping: Bool {
        if case .stopping = status { return true }
        return false
    }
}

/// A position below a running process, or below one that only has a description.
private struct Place {
    var description: ProcessDescription
    var process: SupervisorProcess?
    var specification: SupervisorSpecification?

    static func root(_ process: SupervisorProcess) -> Place {
        Place(
            description: describe(
                Child(supervisor: process.specification).specification,
                key: process.key,
                path: process.path,
                parent: nil,
                pid: Pid(process: process.process),
                isDescribed: true
            ),
            process: process,
            specification: process.specification
        )
    }

    var children: [Place] {
        guard let specification else { return [] }
        let live = process?.snapshot() ?? []
        var places: [Place] = []
        var known: Set<String> = []
        if let process {
            for (child, _, incarnation, childRecord) in live {
                known.insert(child.id)
                let pid = incarnation.map(\.pid).flatMap { $0.isAlive ? $0 : nil }
                let slot = incarnation?.slot ?? 0
                var place = Place(
                    description: Place.describe(
                        child,
                        key: process.key(of: child.id, slot),
                        path: process.path(of: child.id, childRecord.entry),
                        parent: description.key,
                        pid: pid,
                        isDescribed: specification.children.contains { $0.id == child.id }
                    )
                )
                if case .supervisor(let nested) = child.kind {
                    place.specification = nested
                    if pid != nil, case .supervisor(let process)? = incarnation { place.process = process }
                }
                places.append(place)
            }
        }
        for child in specification.children.map(\.specification) where !known.contains(child.id) {
            var place = Place(
                description: Place.describe(
                    child,
                    key: "\(description.key)/\(child.id)",
                    path: "\(description.path)/\(child.id)",
                    parent: description.key,
                    pid: nil,
                    isDescribed: true
                )
            )
            if case .supervisor(let nested) = child.kind { place.specification = nested }
            places.append(place)
        }
        return places
    }

    private static func describe(
        _ child: ChildSpecification,
        key: String,
        path: String,
        parent: String?,
        pid: Pid?,
        isDescribed: Bool
    ) -> ProcessDescription {
        var description = ProcessDescription(
            key: key,
            path: path,
            parent: parent,
            kind: .worker,
            pid: pid,
            isDescribed: isDescribed,
            restart: child.restart,
            isSignificant: child.isSignificant,
            backoff: child.backoff,
            onUnstoppable: child.policy.options.onUnstoppable
        )
        if case .supervisor(let specification) = child.kind {
            description.intensity = specification.intensity
            description.whenExceeded = specification.whenExceeded
            description.givesUpChild = specification.keyed?.givesUpChild ?? false
            switch specification.kind {
            case .ordered(let strategy): description.kind = .supervisor(strategy, specification.autoShutdown)
            case .dynamic: description.kind = .dynamicSupervisor
            }
        }
        return description
    }
}

extension SupervisorProcess.Incarnation {
    fileprivate var slot: SupervisorCore.Slot? {
        switch self {
        case .child(let child): child.slot
        case .supervisor(let supervisor): supervisor.link?.slot
        }
    }
}
