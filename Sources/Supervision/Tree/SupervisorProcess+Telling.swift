import Logging
import Synchronization

/// What observers learn: metrics, events and logs.
extension SupervisorProcess {
    func measure(_ slot: SupervisorCore.Slot, _ report: SupervisorCore.Report) {
        switch report {
        case .started:
            let (isRestart, downSince) = state.withLock { state in
                let downSince = state.shells.update(slot) { shell -> Duration? in
                    shell.isCounted = true
                    return shell.extras.update { $0.downSince.take() } ?? nil
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
                state.shells.update(slot) { shell in
                    if shell.specification.restart != .temporary {
                        shell.extras.update(orMake: ChildShell.Extras()) { $0.downSince = now }
                    }
                    defer { shell.isCounted = false }
                    return shell.isCounted
                } ?? false
            }
            if wasCounted { environment.metrics.childEnded(reason) }
        case .ignored, .startFailed, .restarting, .coolingDown, .gaveUp: return
        }
    }

    func tell(_ slot: SupervisorCore.Slot, _ report: SupervisorCore.Report) {
        let isLogged = environment.logger.logLevel <= SupervisionLog.level(of: report)
        guard isLogged || environment.events.isHeard(report.interest) else { return }
        let shell = state.withLock { $0.shells[slot] }
        let childPath = path(of: shell?.specification.id ?? "?", shell?.entry ?? 0)
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
        tell(childPath, shell?.incarnation?.pid, kind)
    }

    func tell(_ childPath: String, _ pid: Pid?, _ kind: SupervisionEvent.Kind) {
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
