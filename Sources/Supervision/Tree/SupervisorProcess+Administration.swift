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

    func answer(_ request: UInt64, _ reply: SupervisorCore.Reply) {
        let (waiting, entry) = state.withLock {
            state -> (OneShot<AdministrationReply>?, AdministeredChild?) in
            let waiting = state.requests.removeValue(forKey: request)?.reply
            switch reply {
            case .started(let slot), .alreadyStarted(let slot):
                let pid = state.shells[slot]?.incarnation?.pid
                return (waiting, AdministeredChild(slot: slot, entry: state.shells[slot]?.entry ?? 0, pid: pid))
            default: return (waiting, nil)
            }
        }
        waiting?.set((reply, entry))
    }
}
