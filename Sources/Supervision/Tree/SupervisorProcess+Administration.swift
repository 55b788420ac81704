import ConcurrencyPrimitives
import Synchronization

extension SupervisorProcess {
    /// Hands a request to the core. It waits behind a strategy that is running, for as long as that takes, as in OTP.
    func administer(
        _ request: SupervisorCore.Request,
        bringing child: ChildSpecification? = nil
    ) async -> AdministrationReply {
        let waiting = WaitingRequest(child: child)
        let id = state.withLock { state in
            state.lastRequest += 1
            state.requests[state.lastRequest] = waiting
            return state.lastRequest
        }
        if Task.isCancelled {
            state.withLock { _ = $0.requests.removeValue(forKey: id) }
            return (.cancelled, nil)
        }
        enqueue(.request(id, request))
        do {
            return try await waiting.reply.value()
        } catch {
            // The request stays until it is answered: the start of the child may be under way, and needs its specification.
            return (.cancelled, nil)
        }
    }

    /// The same for those who do not wait: `onReply` is called once, on the thread that has the reply.
    func administer(
        _ request: SupervisorCore.Request,
        bringing child: ChildSpecification? = nil,
        onReply: @escaping @Sendable (AdministrationReply) -> Void
    ) {
        let id = state.withLock { state in
            state.lastRequest += 1
            state.requests[state.lastRequest] = WaitingRequest(child: child, onReply: onReply)
            return state.lastRequest
        }
        enqueue(.request(id, request))
    }

    /// Stops the child that a request brought, whatever its incarnation. Whoever wants to know of the end watches for it.
    func terminate(_ slot: SupervisorCore.Slot, entry: UInt64) {
        let generation = state.withLock { state -> UInt64? in
            guard state.childRecords[slot]?.entry == entry else { return nil }
            return state.core.record(slot)?.generation
        }
        guard let generation else { return }
        administer(.terminateSlot(slot, generation: generation)) { [self] reply, _ in
            // It was restarted in between.
            if case .notFound = reply { terminate(slot, entry: entry) }
        }
    }

    func answer(_ request: UInt64, _ reply: SupervisorCore.Reply) {
        let (waiting, entry) = state.withLock { state -> (WaitingRequest?, AdministeredChild?) in
            let waiting = state.requests.removeValue(forKey: request)
            switch reply {
            case .started(let slot), .alreadyStarted(let slot):
                let pid = state.childRecords[slot]?.incarnation?.pid
                return (waiting, AdministeredChild(slot: slot, entry: state.childRecords[slot]?.entry ?? 0, pid: pid))
            case .done, .ignored, .alreadyPresent, .tooManyChildren, .notFound, .running, .restarting, .startFailed,
                .noProcess, .cancelled:
                return (waiting, nil)
            }
        }
        waiting?.reply.set((reply, entry))
        waiting?.onReply?((reply, entry))
    }
}
