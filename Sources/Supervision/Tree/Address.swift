/// A place in a tree, found anew at each use.
struct Address: Sendable {
    enum Anchor: Sendable {
        case supervisor(SupervisorProcess)
        case root(Supervisor)
        /// A child of a dynamic supervisor, whatever its incarnation.
        case dynamic(SupervisorProcess, SupervisorCore.Slot, entry: UInt64, path: String)
    }

    let anchor: Anchor
    let names: [String]

    var path: String {
        let start =
            switch anchor {
            case .supervisor(let process): process.path
            case .root(let supervisor): supervisor.specification.name
            case .dynamic(_, _, _, let path): path
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

    func lookUp() -> SupervisorProcess.LookUp {
        var found: SupervisorProcess.LookUp =
            switch anchor {
            case .supervisor(let process): process.process.isAlive ? .supervisor(process) : .none
            case .root(let supervisor): supervisor.current.map { .supervisor($0) } ?? .none
            case .dynamic(let process, let slot, let entry, _): process.lookUp(slot: slot, entry: entry)
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
        case .dynamic: Address(anchor: .dynamic(owner, slot, entry: entry, path: path), names: [])
        }
    }
}
