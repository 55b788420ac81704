extension SupervisorCore {
    mutating func boot() {
        guard phase == .initial else { return }
        phase = .booting
        operation = Operation(purpose: .boot, stops: [], starts: children.slots().reversed())
        advance()
    }

    mutating func started(_ slot: Slot, _ generation: UInt64) {
        guard case .starting = status(slot, generation) else { return }
        children[slot]?.status = .running
        children[slot]?.startedAt = now
        effects.append(.report(slot, .started))
        startReturned(slot)
    }

    mutating func ignored(_ slot: Slot, _ generation: UInt64) {
        switch status(slot, generation) {
        case .starting:
            effects.append(.report(slot, .ignored))
            ignoredStart(slot)
        case .stopping: stopCompleted(slot, .shutdown())
        case .stopped, .running, .down, .restarting, nil: return
        }
    }

    mutating func startFailed(_ slot: Slot, _ generation: UInt64, _ reason: ExitReason) {
        switch status(slot, generation) {
        case .starting:
            children[slot]?.lastExit = reason
            effects.append(.report(slot, .startFailed(reason)))
            guard let purpose = operation?.purpose else { return }
            switch purpose {
            case .boot:
                children[slot]?.status = .stopped
                let path = name + "/" + (children[slot]?.settings.id ?? "")
                beginShutdown(.shutdown(cause: SupervisionError.failedToStart(child: path, reason: reason)))
            case .restart(let failed, _, _):
                // The retry is this child's. The one that failed first only waits to be started again with the group.
                if failed != slot, case .restarting = children[failed]?.status { children[failed]?.status = .stopped }
                // Retried through the queue, so that whatever arrived meanwhile is served between the tries.
                children[slot]?.status = .restarting
                operation = nil
                if let id = children[slot]?.settings.id { deferred.append(.retry(id: id)) }
                serveDeferred()
            case .startChild(let request, _):
                operation = nil
                children[slot]?.status = .stopped
                forget(slot)
                effects.append(.reply(request, .startFailed(reason)))
                serveDeferred()
            case .restartChild(let request, _):
                operation = nil
                children[slot]?.status = .stopped
                effects.append(.reply(request, .startFailed(reason)))
                serveDeferred()
            case .shutdown, .terminateChild:
                children[slot]?.status = .stopped
                advance()
            }
        case .stopping: stopCompleted(slot, reason)
        case .stopped, .running, .down, .restarting, nil: return
        }
    }

    mutating func exited(_ slot: Slot, _ generation: UInt64, _ reason: ExitReason) {
        switch status(slot, generation) {
        case .stopping:
            stopCompleted(slot, reason)
        case .running:
            children[slot]?.status = .down(reason)
            children[slot]?.lastExit = reason
            deferred.append(.exit(slot, generation: generation))
            if operation == nil { serveDeferred() }
        case .stopped, .starting, .down, .restarting, nil: return
        }
    }

    mutating func delayElapsed(_ slot: Slot, _ delay: UInt64) {
        guard children[slot]?.delay?.number == delay else { return }
        deferred.append(.delayElapsed(slot, delay: delay))
        if operation == nil { serveDeferred() }
    }

    mutating func stop(_ reason: ExitReason) {
        switch phase {
        case .initial:
            phase = .finished
            effects.append(.finished(reason))
        case .booting, .running: beginShutdown(reason)
        case .stopping, .killing, .finished: return
        }
    }

    mutating func kill() {
        guard phase != .killing, phase != .finished else { return }
        phase = .killing
        dropRequests()
        operation = nil
        for slot in children.slots() {
            cancelDelay(slot)
            guard let record = children[slot] else { continue }
            switch record.status {
            case .starting, .running, .stopping:
                children[slot]?.status = .stopping
                toBeKilled += 1
                effects.append(.kill(slot, generation: record.generation))
            case .down, .restarting, .stopped:
                children[slot]?.status = .stopped
            }
        }
        finishIfKilled()
    }
}
