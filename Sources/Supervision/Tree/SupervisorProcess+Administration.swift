import Synchronization

extension SupervisorProcess {
    /// Hands a request to the core. It waits behind a strategy that is running, for as long as that takes, as in OTP.
    func administer(
        _ request: SupervisorCore.Request,
        bringing child: ChildSpecification? = nil
    ) async -> AdministrationReply {
        let id = state.withLock { state in
            state.lastRequest += 1
            state.requests[state.lastRequest] = WaitingRequest(child: child)
            return state.lastRequest
        }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isCancelled = state.withLock { state in
                    guard let waiting = state.requests[id], !waiting.isCancelled else { return true }
                    waiting.continuation = continuation
                    return false
                }
                if isCancelled {
                    state.withLock { _ = $0.requests.removeValue(forKey: id) }
                    continuation.resume(returning: (.cancelled, nil))
                } else {
                    enqueue(.request(id, request))
                }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                // The child stays: its start may be under way, and its specification is needed for it.
                guard let waiting = state.requests[id] else {
                    return nil as CheckedContinuation<AdministrationReply, Never>?
                }
                waiting.isCancelled = true
                return waiting.continuation.take()
            }
            continuation?.resume(returning: (.cancelled, nil))
        }
    }

    func answer(_ request: UInt64, _ reply: SupervisorCore.Reply) {
        let (continuation, entry) = state.withLock {
            state -> (CheckedContinuation<AdministrationReply, Never>?, AdministeredChild?) in
            let continuation = state.requests.removeValue(forKey: request)?.continuation
            switch reply {
            case .started(let slot), .alreadyStarted(let slot):
                let pid = state.shells[slot]?.incarnation?.pid
                return (continuation, AdministeredChild(slot: slot, entry: state.shells[slot]?.entry ?? 0, pid: pid))
            default: return (continuation, nil)
            }
        }
        continuation?.resume(returning: (reply, entry))
    }
}
