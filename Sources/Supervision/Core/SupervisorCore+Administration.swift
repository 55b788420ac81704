extension SupervisorCore {
    mutating func request(_ id: UInt64, _ request: Request) {
        switch phase {
        case .stopping, .killing, .finished: effects.append(.reply(id, .noProcess))
        case .initial, .booting, .running:
            deferred.append(.request(id, request))
            if operation == nil { serveDeferred() }
        }
    }

    mutating func serve(_ id: UInt64, _ request: Request) {
        switch request {
        case .startChild(let settings): startChild(id, settings)
        case .terminateChild(let child): terminateChild(id, child)
        case .restartChild(let child): restartChild(id, child)
        case .deleteChild(let child): deleteChild(id, child)
        case .terminateSlot: effects.append(.reply(id, .notFound))
        }
    }

    mutating func startChild(_ id: UInt64, _ settings: Settings) {
        if let slot = children.slot(of: settings.id) {
            switch children[slot]?.status {
            case .stopped, .restarting: effects.append(.reply(id, .alreadyPresent))
            case .starting, .running, .down, .stopping, nil: effects.append(.reply(id, .alreadyStarted(slot)))
            }
            return
        }
        guard let slot = add(settings) else { return }
        effects.append(.adopt(slot, request: id))
        operation = Operation(purpose: .startChild(id, slot), stops: [], starts: [slot])
        advance()
    }

    mutating func restartChild(_ id: UInt64, _ child: String) {
        guard let slot = children.slot(of: child), let status = children[slot]?.status else {
            effects.append(.reply(id, .notFound))
            return
        }
        switch status {
        case .starting, .running, .down, .stopping: effects.append(.reply(id, .running))
        case .restarting: effects.append(.reply(id, .restarting))
        case .stopped:
            operation = Operation(purpose: .restartChild(id, slot), stops: [], starts: [slot])
            advance()
        }
    }

    /// Stops it without a restart. A retry that is pending is withdrawn; siblings that waited for it stay down until they are
    /// started by hand, as in OTP.
    mutating func terminateChild(_ id: UInt64, _ child: String) {
        guard let slot = children.slot(of: child) else {
            effects.append(.reply(id, .notFound))
            return
        }
        operation = Operation(purpose: .terminateChild(id), stops: [slot], starts: [])
        advance()
    }

    mutating func deleteChild(_ id: UInt64, _ child: String) {
        guard let slot = children.slot(of: child), let status = children[slot]?.status else {
            effects.append(.reply(id, .notFound))
            return
        }
        switch status {
        case .starting, .running, .down, .stopping: effects.append(.reply(id, .running))
        case .restarting: effects.append(.reply(id, .restarting))
        case .stopped:
            forget(slot)
            effects.append(.reply(id, .done))
        }
    }

    mutating func ignoredStart(_ slot: Slot) {
        settleStopped(slot)
        switch operation?.purpose {
        case .startChild(let request, _), .restartChild(let request, _):
            operation = nil
            effects.append(.reply(request, .ignored))
            serveDeferred()
        case .boot, .restart, .terminateChild, .shutdown, nil: startReturned(slot)
        }
    }
}
