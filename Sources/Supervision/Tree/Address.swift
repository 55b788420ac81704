/// A position in a tree, resolved at each use.
struct Address: Sendable {
    enum Anchor: Sendable {
        case supervisor(SupervisorProcess)
        case root(Supervisor)
        /// A child of a dynamic supervisor, across restarts.
        case dynamic(SupervisorProcess, SupervisorCore.Slot, entry: UInt64, ChildSpecification)
        /// The process of a key, across restarts. The path is built only when it is needed.
        case keyed(SupervisorProcess, SupervisorCore.Slot, entry: UInt64, path: @Sendable () -> String)
        /// The process that owns a name in a registry.
        case named(@Sendable () -> Pid?, path: @Sendable () -> String)
    }

    let anchor: Anchor
    let names: [String]

    var path: String {
        let start =
            switch anchor {
            case .supervisor(let process): process.path
            case .root(let supervisor): supervisor.specification.name
            case .dynamic(let process, _, let entry, let child): process.path(of: child.id, entry)
            case .keyed(_, _, _, let path), .named(_, let path): path()
            }
        return ([start] + names).joined(separator: "/")
    }

    func child() throws(CallError) -> ChildProcess {
        switch lookUp() {
        case .child(let child): return child
        case .restarting: throw .restarting(child: path)
        case .supervisor, .none: throw .noProcess(child: path)
        }
    }

    func supervisor() throws(CallError) -> SupervisorProcess {
        switch lookUp() {
        case .supervisor(let supervisor): return supervisor
        case .restarting: throw .restarting(child: path)
        case .child, .none: throw .noProcess(child: path)
        }
    }

    /// Looks up exactly this process; a later incarnation may have another name.
    private static func lookUp(_ pid: Pid) -> SupervisorProcess.LookUp {
        guard let named = pid.process.child else { return .none }
        let found = named.address.lookUp()
        if case .child(let current) = found, current !== named { return .none }
        return found
    }

    func lookUp() -> SupervisorProcess.LookUp {
        var found: SupervisorProcess.LookUp =
            switch anchor {
            case .supervisor(let process): process.process.isAlive ? .supervisor(process) : .none
            case .root(let supervisor): supervisor.current.map { .supervisor($0) } ?? .none
            case .dynamic(let process, let slot, let entry, _), .keyed(let process, let slot, let entry, _):
                process.lookUp(slot: slot, entry: entry)
            case .named(let find, _): find().map { Address.lookUp($0) } ?? .none
            }
        for name in names {
            guard case .supervisor(let supervisor) = found else {
                if case .restarting = found { return found }
                return .none
            }
            found = supervisor.lookUp(name)
        }
        return found
    }
}

extension ChildProcess {
    /// The position of the process, across restarts.
    var address: Address {
        switch owner.specification.kind {
        case .ordered: Address(anchor: .supervisor(owner), names: [specification.id])
        case .dynamic: Address(anchor: .dynamic(owner, slot, entry: entry, specification), names: [])
        }
    }
}

extension Process {
    /// The child whose process this is, until it has ended; `nil` for a supervisor.
    var child: ChildProcess? { target as? ChildProcess }

    /// The supervisor whose process this is; `nil` for a worker, or after its end.
    var supervisor: SupervisorProcess? { target as? SupervisorProcess }
}
