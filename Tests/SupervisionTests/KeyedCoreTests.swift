import Testing

@testable import Supervision

/// Plays the world around one ``KeyedCore``: starts and ends processes, keeps the leases, and checks what has to hold.
private struct KeyedWorld {
    typealias Core = KeyedCore<Int>

    var core: Core
    var places: KeyedPlaces<Core.Ticket>?
    let evicts: Bool
    var now = Duration.zero
    var use: UInt64 = 0
    var timer: Duration?
    var starting: [(ticket: Core.Ticket, key: Int)] = []
    /// By the number of the child.
    var living: [UInt64: Int] = [:]
    var stopping: Set<UInt64> = []
    var leases: [Core.Lease] = []
    /// With their keys.
    var waiting: [Core.Waiter: Int] = [:]
    var refused = 0
    var failures = 0
    var stops = 0
    private var lastChild: UInt64 = 0

    init(idleTimeout: Duration?, limit: Int?, evicts: Bool) {
        core = Core(idleTimeout: idleTimeout, isBounded: limit != nil)
        places = limit.map { KeyedPlaces(limit: $0) }
        self.evicts = evicts
        core.open()
    }

    mutating func call(_ key: Int) {
        decide { core, actions in
            switch core.call(key, &actions) {
            case .lease(let lease): return { $0.leases.append(lease) }
            case .wait(let waiter): return { $0.waiting[waiter] = key }
            case .closed: return { _ in }
            }
        }
    }

    mutating func release(_ index: Int) {
        let lease = leases.remove(at: index)
        use += 1
        let (now, use) = (now, use)
        decide { core, actions in
            core.release(lease, at: now, use: use, &actions)
            return { _ in }
        }
    }

    mutating func touch(_ key: Int) {
        use += 1
        let (now, use) = (now, use)
        decide { core, actions in
            let child = core.touch(key, at: now, use: use, &actions)
            return { world in
                guard let child else { return }
                #expect(world.living[child.entry] == key)
                #expect(!world.stopping.contains(child.entry))
            }
        }
    }

    mutating func giveUp(_ waiter: Core.Waiter) {
        guard let key = waiting.removeValue(forKey: waiter) else { return }
        let wasWaiting = core.giveUp(waiter, of: key)
        #expect(wasWaiting)
    }

    mutating func stop(_ key: Int) {
        decide { core, actions in
            let stopper = core.stop(key, &actions)
            return { world in
                if let stopper { world.waiting[stopper] = key }
            }
        }
    }

    mutating func finishStart(_ index: Int, _ failure: Core.Failure?) {
        let (ticket, key) = starting.remove(at: index)
        if let failure {
            decide { core, actions in
                core.startFailed(ticket, failure, &actions)
                return { _ in }
            }
        } else {
            lastChild += 1
            living[lastChild] = key
            let child = Core.Child(slot: 0, entry: lastChild)
            let (now, use) = (now, use)
            decide { core, actions in
                core.started(ticket, child, at: now, use: use, &actions)
                return { _ in }
            }
        }
    }

    mutating func end(_ child: UInt64) {
        guard living.removeValue(forKey: child) != nil else { return }
        stopping.remove(child)
        leases.removeAll { $0.child.entry == child }
        decide { core, actions in
            core.forgotten(child, &actions)
            return { _ in }
        }
    }

    mutating func advance(by duration: Duration) {
        now += duration
        guard let due = timer, due <= now else { return }
        timer = nil
        let now = now
        decide { core, actions in
            core.timerFired(at: now, &actions)
            return { _ in }
        }
    }

    mutating func close() {
        decide { core, actions in
            core.close(&actions)
            return { _ in }
        }
        starting = []
        living = [:]
        stopping = []
        leases = []
    }

    private mutating func decide(_ body: (inout Core, inout [Core.Action]) -> (inout KeyedWorld) -> Void) {
        var actions: [Core.Action] = []
        let then = body(&core, &actions)
        then(&self)
        for action in actions { perform(action) }
    }

    private mutating func perform(_ action: Core.Action) {
        switch action {
        case .admit(let ticket): admit(ticket)
        case .start(let ticket, let key):
            // At most one process a key.
            #expect(!starting.contains { $0.key == key })
            #expect(!living.values.contains(key))
            starting.append((ticket, key))
        case .stop(let child):
            // Never one with a call under way.
            #expect(!leases.contains { $0.child == child })
            #expect(living[child.entry] != nil)
            let isNew = stopping.insert(child.entry).inserted
            #expect(isNew)
            stops += 1
        case .announceLeaving: places?.announceLeaving()
        case .freePlace(let wasLeaving):
            if let next = places?.free(wasLeaving: wasLeaving) {
                decide { core, actions in
                    core.admitted(next, &actions)
                    return { _ in }
                }
            }
        case .resume(let waiter, let outcome):
            // Answered once.
            let wasWaiting = waiting.removeValue(forKey: waiter) != nil
            #expect(wasWaiting)
            switch outcome {
            case .lease(let lease):
                #expect(living[lease.child.entry] != nil)
                #expect(!stopping.contains(lease.child.entry))
                leases.append(lease)
            case .failed(.tooMany): refused += 1
            case .failed: failures += 1
            case .ended: break
            }
        case .setTimer(let delay):
            #expect(timer == nil)
            timer = now + delay
        }
    }

    private mutating func admit(_ ticket: Core.Ticket) {
        while true {
            switch places?.admit(ticket) {
            case .granted, nil:
                return decide { core, actions in
                    core.admitted(ticket, &actions)
                    return { _ in }
                }
            case .queued: return
            case .full:
                guard evicts, let oldest = core.oldestIdle else {
                    return decide { core, actions in
                        core.refused(ticket, &actions)
                        return { _ in }
                    }
                }
                decide { core, actions in
                    let isEvicted = core.evict(oldest.ticket, &actions)
                    #expect(isEvicted)
                    return { _ in }
                }
            }
        }
    }

    func check() {
        if let places {
            #expect(places.used == starting.count + living.count)
            #expect(places.used <= places.limit)
            #expect(places.leaving == stopping.count)
            #expect(places.queued <= places.leaving)
        }
        #expect(Set(core.keys) == Set(starting.map(\.key)).union(living.values))
        #expect(core.count == starting.count + living.count)
    }
}

@Suite("The decisions of a keyed supervisor")
struct KeyedCoreTests {
    /// Random settings, random events; after each the invariants hold, and in the end nothing is left.
    @Test("keep the invariants under random events", arguments: 0..<300)
    func invariants(seed: Int) {
        var random = SplitMix64(seed: UInt64(seed))
        func below(_ limit: Int) -> Int { Int(random.next() % UInt64(max(1, limit))) }
        func pick<T>(_ values: [T]) -> T? { values.isEmpty ? nil : values[below(values.count)] }
        let limit = [nil, 1, 2, 3, 8][below(5)]
        var world = KeyedWorld(
            idleTimeout: [nil, .seconds(5), .seconds(20)][below(3)],
            limit: limit,
            evicts: below(2) == 0
        )
        let keys = 1 + below(6)
        for _ in 0..<400 {
            switch below(20) {
            case 0...5: world.call(below(keys))
            case 6: world.touch(below(keys))
            case 7...10: if !world.leases.isEmpty { world.release(below(world.leases.count)) }
            case 11...13:
                if !world.starting.isEmpty {
                    let failure: KeyedCore<Int>.Failure? = [nil, nil, nil, .ignored, .startFailed(.killed)][below(5)]
                    world.finishStart(below(world.starting.count), failure)
                }
            case 14: if let child = pick(world.living.keys.sorted()) { world.end(child) }
            case 15: if let child = pick(world.stopping.sorted()) { world.end(child) }
            case 16: world.advance(by: .seconds(below(10)))
            case 17: if let waiter = pick(world.waiting.keys.sorted()) { world.giveUp(waiter) }
            case 18: world.stop(below(keys))
            default:
                if below(20) == 0 {
                    world.close()
                    #expect(world.waiting.isEmpty)
                    world.core.open()
                    world.timer = nil
                }
            }
            world.check()
        }
        // Everything that was begun is finished.
        while !world.starting.isEmpty || !world.stopping.isEmpty || !world.leases.isEmpty {
            if !world.leases.isEmpty { world.release(0) }
            if !world.starting.isEmpty { world.finishStart(0, nil) }
            if let child = world.stopping.first { world.end(child) }
            world.check()
        }
        #expect(world.waiting.isEmpty)
        if world.core.idleTimeout != nil {
            world.advance(by: .seconds(100))
            #expect(world.stopping.count == world.living.count)
            for child in world.living.keys { world.end(child) }
            #expect(world.core.count == 0)
        }
    }

    @Test("what is idle for longest goes first, and only after its time")
    func order() {
        var world = KeyedWorld(idleTimeout: .seconds(10), limit: nil, evicts: false)
        for key in 0..<3 {
            world.call(key)
            world.finishStart(0, nil)
            world.release(0)
            world.advance(by: .seconds(2))
        }
        world.advance(by: .seconds(3))
        #expect(world.stopping.isEmpty)
        world.advance(by: .seconds(1))
        #expect(world.stopping.compactMap { world.living[$0] } == [0])
        world.call(1)
        world.advance(by: .seconds(20))
        #expect(world.stopping.compactMap { world.living[$0] }.sorted() == [0, 2])
        world.release(0)
        world.advance(by: .seconds(10))
        #expect(world.stopping.count == 3)
    }

    @Test("a call that comes while a process ends gets the next one, after the end")
    func arrivesAtTheEnd() {
        var world = KeyedWorld(idleTimeout: .seconds(1), limit: 1, evicts: false)
        world.call(7)
        world.finishStart(0, nil)
        world.release(0)
        world.advance(by: .seconds(1))
        #expect(world.stopping.count == 1)
        world.call(7)
        #expect(world.starting.isEmpty)
        world.end(1)
        #expect(world.starting.count == 1)
        world.finishStart(0, nil)
        #expect(world.leases.map(\.child.entry) == [2])
        #expect(world.refused == 0)
    }
}
