import Logging
import Synchronization

/// What observers learn: metrics, events and logs.
extension SupervisorProcess {
    func measure(_ slot: SupervisorCore.Slot, _ report: SupervisorCore.Report) {
        switch report {
        case .started:
            let (isRestart, downSince) = state.withLock { state in
                let downSince = state.childRecords.update(slot) { childRecord -> Duration? in
                    childRecord.isCounted = true
                    return childRecord.extras.update { $0.downSince.take() } ?? nil
                }
                return (state.core.restarts(slot) > 0, downSince ?? nil)
            }
            environment.metrics.childStarted(
                isRestart: isRestart,
                downFor: downSince.map { environment.clock.now - $0 }
            )
        case .exited(let reason, _), .stopped(let reason, _):
            let now = environment.clock.now
            let wasCounted = state.withLock { state in
                state.childRecords.update(slot) { childRecord in
                    if childRecord.specification.restart.keepsSpecification {
                        childRecord.extras.update(orMake: ChildRecord.Extras()) { $0.downSince = now }
                    }
                    defer { childRecord.isCounted = false }
                    return childRecord.isCounted
                } ?? false
            }
            if wasCounted { environment.metrics.childEnded(reason) }
        case .ignored, .startFailed, .restarting, .coolingDown, .gaveUp: return
        }
    }

    func emit(_ slot: SupervisorCore.Slot, _ report: SupervisorCore.Report) {
        let isLogged = environment.logger.logLevel <= SupervisionLog.level(of: report)
        guard isLogged || environment.events.isHeard(report.interest) else { return }
        let childRecord = state.withLock { $0.childRecords[slot] }
        let childPath = path(of: childRecord?.specification.id ?? "?", childRecord?.entry ?? 0)
        let kind: SupervisionEvent.Kind =
            switch report {
            case .started: .started
            case .ignored: .ignored
            case .exited(let reason, let expected): .exited(reason, expected: expected)
            case .startFailed(let reason): .startFailed(reason)
            case .restarting(let delay): .restarting(after: delay)
            case .coolingDown(let pause, let reason): .coolingDown(pause, reason)
            case .gaveUp(let reason): .gaveUp(reason)
            case .stopped(let reason, let expected): .stopped(reason, expected: expected)
            }
        emit(childPath, childRecord?.incarnation?.pid, kind)
    }

    func emit(_ childPath: String, _ pid: Pid?, _ kind: SupervisionEvent.Kind) {
        let event = SupervisionEvent(path: childPath, pid: pid, kind: kind)
        environment.events.publish(event)
        SupervisionLog.write(event, supervisor: path, to: environment.logger)
    }
}

extension SupervisorCore.Report {
    fileprivate var interest: EventInterest {
        switch self {
        case .started, .ignored, .exited(_, expected: true), .stopped(_, expected: true): .everything
        case .startFailed, .exited, .stopped, .restarting, .coolingDown, .gaveUp: .failures
        }
    }
}
