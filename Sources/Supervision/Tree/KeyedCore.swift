import ConcurrencyPrimitives

/// The decisions of one partition of a ``KeyedSupervisor``, as a value: which key has a process, which calls wait for one, and which idle
/// process may be ended.
///
///     a call        place?      start        started           leases 0 ... idleTimeout       ended
///     ----> queued -----> starting -----> running --------------------------------> stopping ------> gone, or
///             |              |             | the calls that waited get a lease          |            starting again
///             refused        failed        every further call takes one at once         calls wait   when calls wait
///
/// A *lease* stands for one call that is under way or about to begin. A process with a lease is never chosen to be ended. The core has no
/// clock, lock or process: ``KeyedPartition`` is the shell around it.
struct KeyedCore<Key: Hashable & Sendable>: Sendable {
    typealias Slot = Int
    /// A waiting call.
    typealias Waiter = UInt64

    /// The process of a key, as the dynamic supervisor below knows it, across restarts.
    struct Child: Sendable, Hashable {
        var slot: SupervisorCore.Slot
        var entry: UInt64
    }

    /// One period of a key in the table. A later entry in the same slot has another serial.
    struct Ticket: Sendable, Hashable {
        var slot: Slot
        var serial: UInt64
    }

    /// The right to call a process. It has to be released.
    struct Lease: Sendable, Hashable {
        var ticket: Ticket
        var child: Child
    }

    /// The immediate answer to a call that asked for a process.
    enum Answer: Sendable, Hashable {
        case lease(Lease)
        /// The call has to wait for one ``Action/resume(_:_:)``.
        case wait(Waiter)
        /// The supervisor is not running.
        case closed
    }

    /// The outcome for a call that waited.
    enum Outcome: Sendable {
        case lease(Lease)
        case failed(Failure)
        /// The process that had to be stopped has ended.
        case ended
    }

    enum Failure: Sendable {
        /// The start closure threw, or took too long.
        case startFailed(ExitReason)
        /// The start closure returned `nil`.
        case ignored
        /// The limit of processes is reached, and none of them can be ended.
        case tooMany
        /// The supervisor is shutting down.
        case closed
    }

    enum Action: Sendable {
        /// Ask for a place among the processes; answered by ``admitted(_:_:)`` or ``refused(_:_:)``.
        case admit(Ticket)
        case start(Ticket, Key)
        case stop(Child)
        /// A process is about to end, which will free its place.
        case announceLeaving
        /// A place is free. `wasLeaving`: whether that had been announced.
        case freePlace(wasLeaving: Bool)
        case resume(Waiter, Outcome)
        /// Call ``timerFired(at:_:)`` after this time.
        case setTimer(Duration)
    }

    private enum Status: Sendable {
        case queued
        case starting
        case running(Child)
        case stopping(Child)
    }

    private struct Entry: Sendable {
        let key: Key
        let serial: UInt64
        var status: Status
        var leases = 0
        var waiters: [Waiter] = []
        /// Callers of `stop` that wait for the end.
        var stoppers: [Waiter] = []
        /// Whether to end the process after the calls that are under way, even if the caller of `stop` no longer waits.
        var isToEnd = false
        var idleSince = Duration.zero
        var lastUse: UInt64 = 0
        var previousIdle: Slot?
        var nextIdle: Slot?
        var isIdle = false
    }

    /// How long a process may be idle before it is ended; `nil` for no limit.
    let idleTimeout: Duration?
    /// Whether processes need a place before they start.
    let isBounded: Bool
    private(set) var isOpen = false
    private var entries: [Entry?] = []
    private var free: [Slot] = []
    private var slots: [Key: Slot] = [:]
    private var slotsOfChildren: [UInt64: Slot] = [:]
    /// The list of idle processes, the one that has been idle longest at the head.
    private var firstIdle: Slot?
    private var lastIdle: Slot?
    private var hasTimer = false
    private var lastSerial: UInt64 = 0
    private var lastWaiter: UInt64 = 0

    init(idleTimeout: Duration?, isBounded: Bool) {
        self.idleTimeout = idleTimeout
        self.isBounded = isBounded
    }

    /// Every key that has a process or is getting one.
    var keys: [Key] {
        entries.compactMap { entry in
            guard let entry else { return nil }
            if case .queued = entry.status { return nil }
            return entry.key
        }
    }

    var count: Int { entries.count { $0.map { if case .queued = $0.status { false } else { true } } ?? false } }

    /// The process of a key, without a lease.
    func child(of key: Key) -> Child? {
        guard let slot = slots[key], let entry = entries[slot] else { return nil }
        switch entry.status {
        case .queued, .starting: return nil
        case .running(let child), .stopping(let child): return child
        }
    }

    /// Whether the process of a key is ending, or will end after the calls that are under way.
    func isEnding(_ key: Key) -> Bool {
        guard let slot = slots[key], let entry = entries[slot] else { return false }
        if case .stopping = entry.status { return true }
        return entry.isToEnd
    }

    private func isCurrent(_ ticket: Ticket) -> Bool {
        entries.indices.contains(ticket.slot) && entries[ticket.slot]?.serial == ticket.serial
    }
}

// MARK: - Calls

extension KeyedCore {
    /// Requests the process of a key for a call.
    mutating func call(_ key: Key, _ actions: inout [Action]) -> Answer {
        guard isOpen else { return .closed }
        guard let slot = slots[key] else {
            let waiter = nextWaiter()
            enter(key, [waiter], &actions)
            return .wait(waiter)
        }
        if let lease = takeLease(slot) { return .lease(lease) }
        let waiter = nextWaiter()
        entries[slot]?.waiters.append(waiter)
        return .wait(waiter)
    }

    /// A lease on a known process, for a call that does not use its key. `nil` when the process is about to end.
    mutating func lease(on entry: UInt64) -> Lease? {
        guard let slot = slotsOfChildren[entry] else { return nil }
        return takeLease(slot)
    }

    /// The process of a key, for a use that is not a call; resets its idle time. `nil` when there is none, or it is about to end.
    mutating func touch(_ key: Key, at now: Duration, use: UInt64, _ actions: inout [Action]) -> Child? {
        // Reads only the status: a copy of the whole entry would retain everything in it.
        guard isOpen, let slot = slots[key], case .running(let child)? = entries[slot]?.status,
            entries[slot]?.isToEnd == false
        else { return nil }
        becomeIdle(slot, at: now, use: use, &actions)
        return child
    }

    /// Releases the lease when its call has ended.
    mutating func release(_ lease: Lease, at now: Duration, use: UInt64, _ actions: inout [Action]) {
        guard isCurrent(lease.ticket) else { return }
        let slot = lease.ticket.slot
        entries[slot]?.leases -= 1
        becomeIdle(slot, at: now, use: use, &actions)
    }

    /// Removes a caller that no longer waits for this key. False when it has already been answered.
    mutating func giveUp(_ waiter: Waiter, of key: Key) -> Bool {
        guard let slot = slots[key] else { return false }
        if let index = entries[slot]?.waiters.firstIndex(of: waiter) {
            entries[slot]?.waiters.remove(at: index)
            return true
        }
        if let index = entries[slot]?.stoppers.firstIndex(of: waiter) {
            entries[slot]?.stoppers.remove(at: index)
            return true
        }
        return false
    }

    private mutating func takeLease(_ slot: Slot) -> Lease? {
        guard case .running(let child)? = entries[slot]?.status, entries[slot]?.isToEnd == false,
            let serial = entries[slot]?.serial
        else { return nil }
        unlinkIdle(slot)
        entries[slot]?.leases += 1
        return Lease(ticket: Ticket(slot: slot, serial: serial), child: child)
    }

    /// Adds a key to the table, with the calls that wait for its process.
    private mutating func enter(_ key: Key, _ waiters: [Waiter], _ actions: inout [Action]) {
        lastSerial += 1
        var entry = Entry(key: key, serial: lastSerial, status: isBounded ? .queued : .starting)
        entry.waiters = waiters
        let slot: Slot
        if let reused = free.popLast() {
            slot = reused
            entries[slot] = entry
        } else {
            slot = entries.count
            entries.append(entry)
        }
        slots[key] = slot
        let ticket = Ticket(slot: slot, serial: lastSerial)
        actions.append(isBounded ? .admit(ticket) : .start(ticket, key))
    }

    private mutating func nextWaiter() -> Waiter {
        lastWaiter += 1
        return lastWaiter
    }
}

// MARK: - Places and starts

extension KeyedCore {
    mutating func admitted(_ ticket: Ticket, _ actions: inout [Action]) {
        guard isCurrent(ticket), let entry = entries[ticket.slot], case .queued = entry.status else {
            actions.append(.freePlace(wasLeaving: false))
            return
        }
        entries[ticket.slot]?.status = .starting
        actions.append(.start(ticket, entry.key))
    }

    mutating func refused(_ ticket: Ticket, _ actions: inout [Action]) {
        guard isCurrent(ticket), case .queued = entries[ticket.slot]?.status else { return }
        remove(ticket.slot, .tooMany, &actions)
    }

    mutating func started(_ ticket: Ticket, _ child: Child, at now: Duration, use: UInt64, _ actions: inout [Action]) {
        guard isCurrent(ticket), case .starting = entries[ticket.slot]?.status else {
            // The table has been closed in the meantime; the supervisor stops the child.
            return
        }
        let slot = ticket.slot
        entries[slot]?.status = .running(child)
        slotsOfChildren[child.entry] = slot
        guard entries[slot]?.isToEnd == false else { return stop(slot, &actions) }
        let waiters = entries[slot]?.waiters ?? []
        entries[slot]?.waiters = []
        entries[slot]?.leases = waiters.count
        for waiter in waiters { actions.append(.resume(waiter, .lease(Lease(ticket: ticket, child: child)))) }
        becomeIdle(slot, at: now, use: use, &actions)
    }

    mutating func startFailed(_ ticket: Ticket, _ failure: Failure, _ actions: inout [Action]) {
        guard isCurrent(ticket), case .starting = entries[ticket.slot]?.status else { return }
        remove(ticket.slot, failure, &actions)
        if isBounded { actions.append(.freePlace(wasLeaving: false)) }
    }

    /// The supervisor below has removed the child: it has ended and is not restarted.
    mutating func forgotten(_ child: UInt64, _ actions: inout [Action]) {
        guard let slot = slotsOfChildren.removeValue(forKey: child), let entry = entries[slot] else { return }
        var wasLeaving = false
        if case .stopping = entry.status { wasLeaving = true }
        unlinkIdle(slot)
        for stopper in entry.stoppers { actions.append(.resume(stopper, .ended)) }
        if isBounded { actions.append(.freePlace(wasLeaving: wasLeaving)) }
        entries[slot] = nil
        slots[entry.key] = nil
        free.append(slot)
        // These calls arrived while the process was ending, and get the next one.
        if !entry.waiters.isEmpty { enter(entry.key, entry.waiters, &actions) }
    }

    private mutating func remove(_ slot: Slot, _ failure: Failure, _ actions: inout [Action]) {
        guard let entry = entries[slot] else { return }
        unlinkIdle(slot)
        entries[slot] = nil
        slots[entry.key] = nil
        free.append(slot)
        for waiter in entry.waiters { actions.append(.resume(waiter, .failed(failure))) }
        for stopper in entry.stoppers { actions.append(.resume(stopper, .ended)) }
    }
}

// MARK: - Ending processes

extension KeyedCore {
    /// Ends the process of a key after the calls that are under way. `nil` when there is none.
    mutating func stop(_ key: Key, _ actions: inout [Action]) -> Waiter? {
        guard let slot = slots[key], let entry = entries[slot] else { return nil }
        if case .queued = entry.status { return nil }
        let waiter = nextWaiter()
        entries[slot]?.stoppers.append(waiter)
        entries[slot]?.isToEnd = true
        if case .running = entry.status, entry.leases == 0 { stop(slot, &actions) }
        return waiter
    }

    /// The process that has been idle longest, with its last use.
    var oldestIdle: (ticket: Ticket, use: UInt64)? {
        guard let slot = firstIdle, let entry = entries[slot] else { return nil }
        return (Ticket(slot: slot, serial: entry.serial), entry.lastUse)
    }

    /// Ends a process to make room for another. False when it is no longer idle.
    mutating func evict(_ ticket: Ticket, _ actions: inout [Action]) -> Bool {
        guard isCurrent(ticket), entries[ticket.slot]?.isIdle == true else { return false }
        stop(ticket.slot, &actions)
        return true
    }

    /// Ends the processes whose idle timeout has passed.
    mutating func timerFired(at now: Duration, _ actions: inout [Action]) {
        hasTimer = false
        guard isOpen, let idleTimeout else { return }
        while let slot = firstIdle, let entry = entries[slot] {
            let left = entry.idleSince + idleTimeout - now
            guard left <= .zero else { return setTimer(left, &actions) }
            stop(slot, &actions)
        }
    }

    mutating func open() {
        isOpen = true
    }

    /// The supervisor below has ended, and all processes with it.
    mutating func close(_ actions: inout [Action]) {
        isOpen = false
        for slot in entries.indices {
            guard let status = entries[slot]?.status else { continue }
            remove(slot, .closed, &actions)
            guard isBounded else { continue }
            switch status {
            case .queued: break
            case .starting, .running: actions.append(.freePlace(wasLeaving: false))
            case .stopping: actions.append(.freePlace(wasLeaving: true))
            }
        }
        slotsOfChildren = [:]
        entries = []
        free = []
        hasTimer = false
    }

    private mutating func stop(_ slot: Slot, _ actions: inout [Action]) {
        guard case .running(let child) = entries[slot]?.status else { return }
        unlinkIdle(slot)
        entries[slot]?.status = .stopping(child)
        if isBounded { actions.append(.announceLeaving) }
        actions.append(.stop(child))
    }

    /// After the last lease: starts the idle time, or ends the process if that was requested.
    private mutating func becomeIdle(_ slot: Slot, at now: Duration, use: UInt64, _ actions: inout [Action]) {
        guard case .running? = entries[slot]?.status, entries[slot]?.leases == 0 else { return }
        guard entries[slot]?.isToEnd == false else { return stop(slot, &actions) }
        guard idleTimeout != nil || isBounded else { return }
        unlinkIdle(slot)
        entries[slot]?.idleSince = now
        entries[slot]?.lastUse = use
        entries[slot]?.isIdle = true
        entries[slot]?.previousIdle = lastIdle
        entries[slot]?.nextIdle = nil
        if let lastIdle { entries[lastIdle]?.nextIdle = slot } else { firstIdle = slot }
        lastIdle = slot
        if let idleTimeout, !hasTimer { setTimer(idleTimeout, &actions) }
    }

    private mutating func unlinkIdle(_ slot: Slot) {
        guard entries[slot]?.isIdle == true, let entry = entries[slot] else { return }
        entries[slot]?.isIdle = false
        if let previous = entry.previousIdle {
            entries[previous]?.nextIdle = entry.nextIdle
        } else {
            firstIdle = entry.nextIdle
        }
        if let next = entry.nextIdle {
            entries[next]?.previousIdle = entry.previousIdle
        } else {
            lastIdle = entry.previousIdle
        }
        entries[slot]?.previousIdle = nil
        entries[slot]?.nextIdle = nil
    }

    private mutating func setTimer(_ delay: Duration, _ actions: inout [Action]) {
        hasTimer = true
        actions.append(.setTimer(delay))
    }
}
