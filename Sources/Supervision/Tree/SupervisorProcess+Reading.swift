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
        guard let status = state.core.record(slot)?.status else { return .none }
        switch status {
        case .stopped where !state.core.isAboutToStart(slot): return .none
        case .stopped, .starting, .restarting, .down: break
        case .running, .stopping:
            switch state.childRecords[slot]?.incarnation {
            case .supervisor(let supervisor): if supervisor.process.isAlive { return .supervisor(supervisor) }
            case .child(let child): if child.process.isAlive { return .child(child) }
            case nil: return .none
            }
        }
        return .restarting(PendingChild(supervisor: self, slot: slot))
    }

    /// The child that a request brought, whatever its incarnation.
    func lookUp(slot: SupervisorCore.Slot, entry: UInt64) -> LookUp {
        state.withLock { state in
            guard let childRecord = state.childRecords[slot], childRecord.entry == entry else { return .none }
            return lookUp(slot, state)
        }
    }

    /// Whether there is a child with this id, whatever its state.
    func hasChild(_ id: String) -> Bool {
        state.withLock { $0.core.slot(of: id) != nil }
    }

    /// The children in start order, as they are now.
    func snapshot() -> [(ChildSpecification, SupervisorCore.Record, Incarnation?, childRecord: ChildRecord)] {
        state.withLock { state in
            state.core.slots.compactMap { slot in
                guard let record = state.core.record(slot), let childRecord = state.childRecords[slot] else {
                    return nil
                }
                return (childRecord.specification, record, childRecord.incarnation, childRecord)
            }
        }
    }
}
