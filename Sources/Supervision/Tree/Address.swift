/// A place in a tree, found anew at each use.
struct Address: Sendable {
    enum Anchor: Sendable {
        case supervisor(SupervisorProcess)
        case root(Supervisor)
        /// A child of a dynamic supervisor, whatever its incarnation.
        case dynamic(SupervisorProcess, SupervisorCore.Slot, entry: UInt64, ChildSpecification)
        /// The process of a key, whatever its incarnation. The path is made when somebody asks for it.
        case keyed(SupervisorProcess, SupervisorCore.Slot, entry: UInt64, path: @Sendable () -> String)
        /// The process that has a name in a registry.
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

    /// That process and no later incarnation, which may have another name.
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
    /// Its place, whatever the incarnation.
    var address: Address {
        switch owner.specification.kind {
        case .ordered: Address(anchor: .supervisor(owner), names: [specification.id])
        case .dynamic: Address(anchor: .dynamic(owner, slot, entry: entry, specification), names: [])
        }
    }
}

extension Process {
    /// The child that this is the process of, until it has ended; `nil` for a supervisor.
    var child: ChildProcess? { target as? ChildProcess }

    /// The supervisor that it is; `nil` when it is none, or has ended.
    var supervisor: SupervisorProcess? { target as? SupervisorProcess }
}
