import ConcurrencyPrimitives

/// A child that is starting, or will be started.
struct PendingChild: Sendable {
    let supervisor: SupervisorProcess
    let slot: SupervisorCore.Slot

    /// Returns when the child may have started or been removed: the caller looks it up again.
    ///
    /// - Returns: False when the deadline passed first, by the tree's clock. Without a deadline it waits as long as the start takes.
    func changed(before deadline: Duration? = nil) async throws(CancellationError) -> Bool {
        let clock = supervisor.environment.clock
        let left = deadline.map { $0 - clock.now }
        if let left, left <= .zero { return false }
        let change = OneShot<Bool>()
        let token = supervisor.watchArrival(slot) { change.set(true) }
        let timer = left.map { clock.schedule(after: $0) { change.set(false) } }
        defer {
            timer?.cancel()
            supervisor.unwatchArrival(slot, token)
        }
        return try await change.value()
    }
}

/// The callers that wait for children to start, by slot.
struct Arrivals {
    private var lastToken: UInt64 = 0
    private var handlers: [SupervisorCore.Slot: [UInt64: @Sendable () -> Void]] = [:]

    mutating func add(_ slot: SupervisorCore.Slot, _ handler: @escaping @Sendable () -> Void) -> UInt64 {
        lastToken += 1
        handlers[slot, default: [:]][lastToken] = handler
        return lastToken
    }

    /// False when the handler has already been called or removed.
    mutating func remove(_ slot: SupervisorCore.Slot, _ token: UInt64) -> Bool {
        guard handlers[slot]?.removeValue(forKey: token) != nil else { return false }
        if handlers[slot]?.isEmpty == true { handlers[slot] = nil }
        return true
    }

    mutating func take(_ slot: SupervisorCore.Slot) -> [@Sendable () -> Void] {
        handlers.removeValue(forKey: slot).map { Array($0.values) } ?? []
    }

    mutating func takeAll() -> [@Sendable () -> Void] {
        defer { handlers = [:] }
        return handlers.values.flatMap(\.values)
    }
}
