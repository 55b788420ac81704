import ConcurrencyPrimitives
import DequeModule

extension SupervisorCore {
    /// Does the next step of the operation, until something has to be waited for.
    mutating func advance() {
        while operation != nil {
            if let slot = operation?.stops.popLast() {
                if beginStop(slot) { return }
            } else if case .restart(let slot, let delay, let resets) = operation?.purpose, delay > .zero {
                operation = nil
                putOff(slot, by: delay, resetsIntensity: resets)
            } else if let slot = operation?.starts.popLast() {
                if beginStart(slot) { return }
            } else if let purpose = operation?.purpose {
                operation = nil
                completed(purpose)
            }
        }
        serveDeferred()
    }

    /// True when the stop has to be waited for.
    mutating func beginStop(_ slot: Slot) -> Bool {
        guard let record = children[slot] else { return false }
        switch record.status {
        case .running, .starting:
            children[slot]?.status = .stopping
            operation?.waiting = slot
            effects.append(.stop(slot, generation: record.generation))
            return true
        case .stopping:
            operation?.waiting = slot
            return true
        case .down(let reason):
            // It ended by itself just before: its true reason counts, the queued exit finds nothing (statements 29, 38).
            reportStopped(slot, reason)
            settleStopped(slot)
            return false
        case .restarting:
            cancelDelay(slot)
            settleStopped(slot)
            return false
        case .stopped:
            return false
        }
    }

    /// True when the start has to be waited for.
    mutating func beginStart(_ slot: Slot) -> Bool {
        switch children[slot]?.status {
        case .running, .starting, .stopping, .down, nil: return false
        case .stopped, .restarting: break
        }
        cancelDelay(slot)
        lastGeneration += 1
        if children[slot]?.generation != 0 { children[slot]?.restarts += 1 }
        children[slot]?.generation = lastGeneration
        children[slot]?.status = .starting
        operation?.waiting = slot
        effects.append(.start(slot, generation: lastGeneration))
        return true
    }

    mutating func startReturned(_ slot: Slot) {
        guard operation?.waiting == slot else { return }
        operation?.waiting = nil
        advance()
    }

    mutating func stopCompleted(_ slot: Slot, _ reason: ExitReason) {
        children[slot]?.lastExit = reason
        reportStopped(slot, reason)
        settleStopped(slot)
        if phase == .killing {
            toBeKilled -= 1
            finishIfKilled()
        } else if operation?.waiting == slot {
            operation?.waiting = nil
            advance()
        }
    }

    mutating func completed(_ purpose: Operation.Purpose) {
        switch purpose {
        case .boot:
            phase = .running
            effects.append(.booted)
        case .restart:
            break
        case .startChild(let request, let slot), .restartChild(let request, let slot):
            effects.append(.reply(request, .started(slot)))
        case .terminateChild(let request):
            effects.append(.reply(request, .done))
        case .shutdown(let reason):
            phase = .finished
            effects.append(.finished(reason))
        }
    }

    /// Shuts everything down, overtaking whatever is under way.
    mutating func beginShutdown(_ reason: ExitReason) {
        phase = .stopping
        dropRequests()
        operation = Operation(purpose: .shutdown(reason), stops: children.slots(), starts: [])
        advance()
    }

    mutating func finishIfKilled() {
        guard toBeKilled == 0 else { return }
        phase = .finished
        effects.append(.finished(.killed))
    }

    /// Takes what waited, in order of arrival, until one of them begins an operation.
    mutating func serveDeferred() {
        guard !isServing else { return }
        isServing = true
        defer { isServing = false }
        while operation == nil, phase == .running, let next = deferred.popFirst() {
            switch next {
            case .exit(let slot, let generation):
                guard case .down(let reason) = status(slot, generation) else { continue }
                childTerminated(slot, reason)
            case .retry(let id):
                guard let slot = children.slot(of: id), let record = children[slot], case .restarting = record.status,
                    record.delay == nil
                else { continue }
                restart(slot, record.lastExit ?? .killed)
            case .delayElapsed(let slot, let number):
                guard let delay = children[slot]?.delay, delay.number == number else { continue }
                if delay.resetsIntensity { window.reset() }
                cancelDelay(slot)
                beginGroupRestart(slot, after: .zero, resetsIntensity: false)
            case .request(let id, let request): serve(id, request)
            }
        }
    }

    /// A supervisor that ends answers nobody: what waits fails at once.
    mutating func dropRequests() {
        switch operation?.purpose {
        case .startChild(let request, _), .restartChild(let request, _), .terminateChild(let request):
            effects.append(.reply(request, .noProcess))
        case .boot, .restart, .shutdown, nil: break
        }
        for case .request(let id, _) in deferred { effects.append(.reply(id, .noProcess)) }
        deferred.removeAll()
    }
}
