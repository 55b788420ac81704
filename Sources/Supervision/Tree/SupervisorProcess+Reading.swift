import Synchronization

/// What is read of a supervisor answers at once, also while a strategy is running.
extension SupervisorProcess {
    func lookUp(_ id: String) -> LookUp {
        state.withLock { state in
            guard let slot = state.core.slot(of: id) else { return .none }
            return lookUp(slot, state)
        }
    }

    func lookUp(_ slot: SupervisorCore.Slot, _ state: State) -> LookUp {
        guard let record = state.core.record(slot) else { return .none }
        let coming = LookUp.restarting(ComingChild(supervisor: self, slot: slot))
        switch record.status {
        case .stopped: return state.core.isAboutToStart(slot) ? coming : .none
        case .starting, .restarting, .down: return coming
        case .running, .stopping:
            switch state.shells[slot]?.incarnation {
            case .supervisor(let supervisor): return supervisor.process.isAlive ? .supervisor(supervisor) : coming
            case .child(let child): return child.process.isAlive ? .child(child) : coming
            case nil: return .none
            }
        }
    }

    /// The child that a request brought, whatever its incarnation.
    func lookUp(slot: SupervisorCore.Slot, entry: UInt64) -> LookUp {
        state.withLock { state in
            guard let shell = state.shells[slot], shell.entry == entry else { return .none }
            return lookUp(slot, state)
        }
    }

    /// Whether there is a child with this id, whatever its state.
    func hasChild(_ id: String) -> Bool {
        state.withLock { $0.core.slot(of: id) != nil }
    }

    /// The children in start order, as they are now.
    func snapshot() -> [(ChildSpecification, SupervisorCore.Record, Incarnation?, shell: ChildShell)] {
        state.withLock { state in
            state.core.slots.compactMap { slot in
                guard let record = state.core.record(slot), let shell = state.shells[slot] else { return nil }
                return (shell.specification, record, shell.incarnation, shell)
            }
        }
    }
}
