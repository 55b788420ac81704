import Testing

@testable import Supervision

@Suite("The decisions of a supervisor, under random events")
struct SupervisorCorePropertyTests {
    /// Random trees, random events; after each event the invariants hold. The seed is part of a failure's name.
    @Test("keep the invariants", arguments: 0..<300)
    func invariants(seed: Int) {
        _ = play(seed: seed, decidesDirectly: true)
    }

    @Test("are the same on the direct and on the general path, effect by effect", arguments: 0..<600)
    func paths(seed: Int) {
        let direct = play(seed: seed, decidesDirectly: true)
        let general = play(seed: seed, decidesDirectly: false)
        #expect(direct.count == general.count)
        let difference = zip(direct, general).enumerated().first { $1.0 != $1.1 }
        if let (index, (direct, general)) = difference {
            Issue.record("at \(index): '\(direct)' on the direct path, '\(general)' on the general one")
        }
    }

    @Test("take the direct path for a restart with nothing else under way")
    func direct() {
        var world = CoreHarness(.oneForOne, "a", "b")
        world.boot()
        var core = world.core
        let slot = core.children.slot(of: "a") ?? -1
        let crash = SupervisorCore.Event.exited(slot, generation: 1, .crashed(TestFailure()))
        var effects: [SupervisorCore.Effect] = []
        #expect(core.handleDirectly(crash, at: .zero, &effects))
        #expect(core.handleDirectly(.started(slot, generation: 3), at: .zero, &effects))
        #expect(effects.count == 4)
        core = CoreHarness(.oneForAll, "a", "b").core
        #expect(!core.handleDirectly(crash, at: .zero, &effects))
        #expect(effects.count == 4)
    }

    /// Plays random events. Returns every effect, and the state after each event.
    private func play(seed: Int, decidesDirectly: Bool) -> [String] {
        var states: [String] = []
        var random = SplitMix64(seed: UInt64(seed))
        func pick<T>(_ values: [T]) -> T { values[Int(random.next() % UInt64(values.count))] }
        let strategy = pick([Strategy.oneForOne, .oneForAll, .restForOne])
        let count = 1 + Int(random.next() % 6)
        let children = (0..<count).map { index in
            SupervisorCore.Settings(
                id: "\(index)",
                restart: pick([.permanent, .permanent, .transient, .temporary]),
                backoff: pick([nil, nil, Backoff(minimum: .seconds(1), maximum: .seconds(4))])
            )
        }
        var world = CoreHarness(
            strategy,
            intensity: .init(Int(random.next() % 6), within: .seconds(5)),
            whenExceeded: pick([.escalate, .escalate, .cooldown(.seconds(3))]),
            children
        )
        for child in children {
            world.starts[child.id] = (0..<4).map { _ in
                pick([.succeeds, .succeeds, .succeeds, .fails, .ignores, .hangs])
            }
        }
        world.decidesDirectly = decidesDirectly
        world.send(.boot)
        for step in 0..<60 {
            let id = "\(random.next() % UInt64(count))"
            switch random.next() % 12 {
            case 0...3: world.exit(id, pick([.crashed(TestFailure()), .killed, .normal, .shutdown()]))
            case 4, 5: world.started(id)
            case 6: world.advance(by: .milliseconds(Int64(random.next() % 4000)))
            case 7: world.slowToStop = pick([[], [id]])
            case 8: world.send(.request(UInt64(step), .terminateChild(id: id)))
            case 9: world.send(.request(UInt64(step), .restartChild(id: id)))
            case 10: world.send(.request(UInt64(step), .startChild(.init(id: id))))
            default: if random.next() % 8 == 0 { world.send(.stop(.shutdown())) }
            }
            check(world)
            states.append(state(of: world))
        }
        world.slowToStop = []
        world.send(.kill)
        for id in Array(world.live.keys) { world.exit(id, .killed) }
        #expect(world.finished != nil)
        #expect(world.live.isEmpty)
        #expect(world.delays.isEmpty)
        return world.effects + states
    }

    private func state(of world: CoreHarness) -> String {
        let core = world.core
        let records = core.children.slots().compactMap { slot in
            core.children[slot].map { record in
                "\(record.settings.id) \(record.status) \(record.generation) \(record.restarts) \(record.failures) "
                    + "\(String(describing: record.lastExit)) \(String(describing: record.startedAt))"
            }
        }
        return "\(core.phase) \(core.activity) \(core.window.count(at: world.now)) \(records)"
    }

    private func check(_ world: CoreHarness) {
        var running: Set<String> = []
        for slot in world.core.children.slots() {
            guard let record = world.core.children[slot] else { continue }
            switch record.status {
            case .starting, .running, .stopping:
                running.insert(record.settings.id)
                // At most one live incarnation, and it is the one the core thinks of.
                #expect(world.live[record.settings.id]?.generation == record.generation)
            case .stopped, .restarting, .down:
                #expect(world.live[record.settings.id] == nil)
            }
            if let delay = record.delay {
                guard case .restarting = record.status else {
                    Issue.record("a delay without a restart")
                    continue
                }
                // Its timer runs, or has fired and waits behind an operation.
                #expect(world.delays[slot]?.due == delay.until || delay.until <= world.now)
            }
        }
        #expect(Set(world.live.keys) == running)
        if world.finished != nil { #expect(running.isEmpty) }
    }
}
