import ConcurrencyPrimitives

extension SupervisorCore {
    /// A child ended by itself (OTP's `do_restart/3`).
    mutating func childTerminated(_ slot: Slot, _ reason: ExitReason) {
        guard let settings = children[slot]?.settings else { return }
        effects.append(.report(slot, .exited(reason, expected: !settings.restart.reports(reason))))
        if settings.restart.restarts(after: reason) {
            restart(slot, reason)
            return
        }
        settleStopped(slot)
        guard settings.isSignificant else { return }
        switch autoShutdown {
        case .never: return
        case .anySignificant: beginShutdown(.shutdown())
        case .allSignificant:
            let remains = children.slots().contains { other in
                guard let record = children[other], record.settings.isSignificant else { return false }
                if case .stopped = record.status { return false }
                return true
            }
            if !remains { beginShutdown(.shutdown()) }
        }
    }

    /// Counts the restart, and begins it, puts it off or gives up (OTP's `restart/2`).
    mutating func restart(_ slot: Slot, _ reason: ExitReason) {
        var delay = backoffDelay(slot)
        var resetsIntensity = false
        if !window.add(at: now) {
            switch whenExceeded {
            case .escalate:
                giveUp(slot, reason)
                return
            case .cooldown(let cooldown):
                let pause = cooldown.clamped
                delay = max(delay, pause)
                resetsIntensity = true
                effects.append(.report(slot, .coolingDown(pause, reason)))
            }
        }
        children[slot]?.status = .restarting
        beginGroupRestart(slot, after: delay, resetsIntensity: resetsIntensity)
    }

    mutating func giveUp(_ slot: Slot, _ reason: ExitReason) {
        let id = children[slot]?.settings.id ?? ""
        settleStopped(slot)
        effects.append(.report(slot, .gaveUp(reason)))
        beginShutdown(
            .shutdown(
                cause: SupervisionError.intensityExceeded(supervisor: name, child: name + "/" + id, lastReason: reason)
            )
        )
    }

    /// Stops what the strategy couples to the child; then, after the delay, starts the group.
    mutating func beginGroupRestart(_ slot: Slot, after delay: Duration, resetsIntensity: Bool) {
        var delay = delay
        var resetsIntensity = resetsIntensity
        let group: [Slot]
        switch strategy {
        case .oneForOne:
            effects.append(.report(slot, .restarting(after: delay)))
            operation = Operation(
                purpose: .restart(slot, after: delay, resetsIntensity: resetsIntensity),
                stops: [],
                starts: [slot]
            )
            return advance()
        case .oneForAll: group = children.slots()
        case .restForOne: group = children.slots(from: slot)
        }
        // A restart in the group that had been put off is taken over: together they wait for what remains of it.
        for other in group where other != slot {
            guard let pending = children[other]?.delay else { continue }
            delay = max(delay, pending.until - now)
            resetsIntensity = resetsIntensity || pending.resetsIntensity
        }
        effects.append(.report(slot, .restarting(after: delay)))
        operation = Operation(
            purpose: .restart(slot, after: delay, resetsIntensity: resetsIntensity),
            stops: group.filter { $0 != slot },
            // A temporary sibling is stopped and forgotten, never started again (statement 27).
            starts: group.reversed().filter { children[$0]?.settings.restart.keepsSpecification == true }
        )
        advance()
    }

    mutating func backoffDelay(_ slot: Slot) -> Duration {
        guard let record = children[slot], let backoff = record.settings.backoff else { return .zero }
        let failures = record.failuresIncludingThis(at: now, backoff)
        children[slot]?.failures = failures
        children[slot]?.startedAt = nil
        return backoff.delay(afterFailures: failures, random: random.unit())
    }

    mutating func putOff(_ slot: Slot, by delay: Duration, resetsIntensity: Bool) {
        guard children[slot] != nil else { return }
        cancelDelay(slot)
        lastDelay += 1
        children[slot]?.delay = PendingDelay(until: now + delay, resetsIntensity: resetsIntensity, number: lastDelay)
        pendingDelays += 1
        effects.append(.scheduleDelay(slot, delay: lastDelay, delay))
    }

    mutating func cancelDelay(_ slot: Slot) {
        guard children[slot]?.delay != nil else { return }
        children[slot]?.delay = nil
        pendingDelays -= 1
        effects.append(.cancelDelay(slot))
    }
}

extension SupervisorCore {
    /// Whether a child that is stopped will be started: an operation has it before it, or a group restart that takes it along
    /// has been put off or is to be retried.
    func isAboutToStart(_ slot: Slot) -> Bool {
        guard phase == .booting || phase == .running else { return false }
        if operation?.starts.contains(slot) == true { return true }
        let others: [Slot]
        switch strategy {
        case .oneForOne: return false
        case .oneForAll: others = children.slots()
        case .restForOne: others = Array(children.slots().prefix { $0 != slot })
        }
        return others.contains { if case .restarting = children[$0]?.status { true } else { false } }
    }
}
