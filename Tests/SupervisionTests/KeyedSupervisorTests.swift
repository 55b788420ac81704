import Logging
import SupervisionTesting
import Synchronization
import Testing

@testable import Supervision

/// An actor that knows its key.
private actor Tenant {
    let key: String
    private(set) var calls = 0

    init(_ key: String) { self.key = key }

    func call() -> Int {
        calls += 1
        return calls
    }
}

/// Counts the processes of each key.
private final class Census: Sendable {
    private struct State {
        var living: [String: Int] = [:]
        var starts: [String: Int] = [:]
        var most = 0
    }

    private let state = Mutex(State())

    func begin(_ key: String) {
        state.withLock { state in
            state.living[key, default: 0] += 1
            state.starts[key, default: 0] += 1
            state.most = max(state.most, state.living[key] ?? 0)
        }
    }

    func end(_ key: String) { state.withLock { $0.living[key, default: 0] -= 1 } }

    func starts(of key: String) -> Int { state.withLock { $0.starts[key] ?? 0 } }
    var mostOfOneKey: Int { state.withLock { $0.most } }
    var living: Int { state.withLock { $0.living.values.reduce(0, +) } }
}

private func tenants(
    _ census: Census = Census(),
    limit: ProcessLimit = .unlimited,
    idleTimeout: Duration? = nil,
    partitions: Int? = nil,
    restart: Restart = .transient,
    backoff: Backoff? = nil,
    intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
    whenExceeded: KeyedWhenExceeded = .giveUp,
    logger: Logger? = nil,
    // Nobody turns it: on a busy machine no call runs out of time.
    clock: any SupervisionClock = ManualClock(),
    start: @escaping @Sendable (String, ChildContext) async throws -> Void = { _, _ in }
) -> KeyedSupervisor<String, Tenant> {
    KeyedSupervisor(
        "tenants",
        limit: limit,
        idleTimeout: idleTimeout,
        partitions: partitions,
        processRestart: restart,
        processOptions: ChildOptions(backoff: backoff, startTimeout: .seconds(30)),
        intensity: intensity,
        whenExceeded: whenExceeded,
        logger: logger,
        clock: clock
    ) { key, context in
        try await start(key, context)
        census.begin(key)
        context.pid.onExit { _ in census.end(key) }
        return Tenant(key)
    }
}

@Suite("A keyed supervisor")
struct KeyedSupervisorTests {
    @Test("starts the process of a key with the first call, and finds it with every further one")
    func findOrStart() async throws {
        let census = Census()
        let tenants = tenants(census)
        try await tenants.start()
        #expect(tenants["ada"].pid == nil)
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        #expect(try await tenants["ada"].call { $0.call() } == 2)
        #expect(try await tenants["bob"].call { $0.key } == "bob")
        #expect(census.starts(of: "ada") == 1)
        #expect(try await tenants["ada"].findOrStart() == tenants["ada"].pid)
        #expect(Set(tenants.keys) == ["ada", "bob"])
        #expect(tenants.count == 2)
        await tenants.stop()
        #expect(census.living == 0)
    }

    @Test("is found through the same object inside another's tree; its path holds the key and no partition")
    func nested() async throws {
        let tenants = tenants()
        let app = Supervisor("app", clock: ManualClock()) { tenants }
        try await app.start()
        let events = app.events
        let pid = try await tenants["ada"].findOrStart()
        #expect(tenants["ada"].path == "app/tenants/ada")
        #expect(app.tree().nodes.filter { $0.pid == pid }.map(\.path) == ["app/tenants/ada"])
        pid.kill()
        try await LiveTree(app).settled()
        #expect(tenants["ada"].pid != pid)
        #expect(tenants["ada"].path == "app/tenants/ada")
        await app.stop()
        var paths: Set<String> = []
        for await event in events { paths.insert(event.path) }
        #expect(paths.contains("app/tenants/ada"))
        #expect(paths.allSatisfy { !$0.contains("ada") || $0 == "app/tenants/ada" })
    }

    @Test("is started once, however many ask at once")
    func once() async throws {
        for _ in 1...20 {
            let census = Census()
            let tenants = tenants(census) { _, _ in await Task.yield() }
            try await tenants.start()
            let pids = try await withThrowingTaskGroup(of: Pid.self) { group in
                for _ in 1...50 { group.addTask { try await tenants["ada"].findOrStart() } }
                return try await group.reduce(into: Set<Pid>()) { $0.insert($1) }
            }
            #expect(pids.count == 1)
            #expect(census.starts(of: "ada") == 1)
            await tenants.stop()
        }
    }

    @Test("a call that waits while its process restarts runs once on the next incarnation; one that will not is told")
    func restarts() async throws {
        let clock = ManualClock()
        let tenants = tenants(
            backoff: Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0),
            clock: clock
        )
        try await tenants.start()
        let pid = try await tenants["ada"].findOrStart()
        pid.kill()
        await #expect {
            try await tenants["ada"].call(whileRestarting: .fail) { $0.call() }
        } throws: {
            if case CallError.restarting("tenants/ada") = $0 { true } else { false }
        }
        let timers = clock.pendingTimers
        async let call = tenants["ada"].call { $0.call() }
        await settle { clock.pendingTimers > timers }
        clock.advance(by: .seconds(1))
        #expect(try await call == 1)
        #expect(tenants["ada"].pid != pid)
        #expect(tenants.keys == ["ada"])
        await tenants.stop()
    }

    @Test("a process that ended normally has no successor until the next call")
    func normalEnd() async throws {
        let census = Census()
        let tenants = tenants(census)
        try await tenants.start()
        let pid = try await tenants["ada"].findOrStart()
        tenants.root.testing.endNormally(pid)
        _ = await pid.exited()
        await settle { tenants.count == 0 }
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        #expect(census.starts(of: "ada") == 2)
        await tenants.stop()
    }

    @Test("a process is ended when nobody has called it for the idle time, and not before")
    func idle() async throws {
        let clock = ManualClock()
        let census = Census()
        let tenants = tenants(census, idleTimeout: .seconds(60), partitions: 1, clock: clock)
        try await tenants.start()
        let pid = try await tenants["ada"].findOrStart()
        clock.advance(by: .seconds(59))
        #expect(try await tenants["ada"].findOrStart() == pid)
        clock.advance(by: .seconds(59))
        #expect(tenants["ada"].pid == pid)
        clock.advance(by: .seconds(1))
        guard case .shutdown = await pid.exited() else {
            Issue.record("unexpected reason")
            return
        }
        await settle { tenants.count == 0 }
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        #expect(census.mostOfOneKey == 1)
        await tenants.stop()
    }

    @Test("a process with a call under way is not ended as idle, whatever reference the call came through")
    func busy() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let references = Mutex<[ChildReference<Tenant>]>([])
        let tenants = tenants(idleTimeout: .seconds(1), partitions: 1, clock: clock) { _, context in
            references.withLock { $0.append(context.reference(as: Tenant.self)) }
        }
        try await tenants.start()
        let pid = try await tenants["ada"].findOrStart()
        let reference = try #require(references.withLock { $0.first })
        #expect(reference.path == "tenants/ada")
        let calls = [
            Task {
                try await tenants["ada"].call(timeout: .seconds(3600)) { _ in
                    journal.write("by key")
                    await journal.wait(for: "go")
                }
            },
            Task {
                try await reference.call(timeout: .seconds(3600)) { _ in
                    journal.write("by reference")
                    await journal.wait(for: "on")
                }
            },
        ]
        await journal.wait(for: "by key")
        await journal.wait(for: "by reference")
        clock.advance(by: .seconds(10))
        #expect(tenants["ada"].pid == pid)
        journal.write("go")
        try await calls[0].value
        clock.advance(by: .seconds(10))
        #expect(tenants["ada"].pid == pid)
        journal.write("on")
        try await calls[1].value
        clock.advance(by: .seconds(1))
        _ = await pid.exited()
        await tenants.stop()
    }

    @Test("calls and idle ends race without a call that fails, and without two processes of a key")
    func idleRace() async throws {
        let clock = ManualClock()
        let census = Census()
        let tenants = tenants(census, idleTimeout: .milliseconds(1), partitions: 2, clock: clock)
        try await tenants.start()
        let isOver = Atomic(false)
        let turning = Task.detached {
            while !isOver.load(ordering: .relaxed) {
                clock.advance(by: .milliseconds(1))
                await Task.yield()
            }
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<8 {
                group.addTask {
                    for round in 0..<100 {
                        let key = "\((index + round) % 3)"
                        // The clock flies, so that calls have all the time there is.
                        let found = try await tenants[key].call(timeout: .seconds(100_000)) { $0.key }
                        #expect(found == key)
                    }
                }
            }
            try await group.waitForAll()
        }
        isOver.store(true, ordering: .relaxed)
        await turning.value
        #expect(census.mostOfOneKey == 1)
        await tenants.stop()
        #expect(census.living == 0)
    }

    @Test("a stopped process ends after the calls under way; calls that arrive get the next one")
    func stop() async throws {
        let journal = Journal()
        let census = Census()
        let tenants = tenants(census)
        try await tenants.start()
        let pid = try await tenants["ada"].findOrStart()
        let first = Task {
            try await tenants["ada"].call { tenant in
                journal.write("first")
                await journal.wait(for: "go")
                return tenant.call()
            }
        }
        await journal.wait(for: "first")
        let stopping = Task { try await tenants["ada"].stop() }
        await settle { tenants["ada"].partition.isStopping("ada") }
        let second = Task { try await tenants["ada"].call { $0.call() } }
        journal.write("go")
        #expect(try await first.value == 1)
        try await stopping.value
        #expect(!pid.isAlive)
        #expect(try await second.value == 1)
        #expect(census.mostOfOneKey == 1)
        #expect(census.starts(of: "ada") == 2)
        try await tenants["nobody"].stop()
        await tenants.stop()
    }

    @Test("refuses one more process than it may have, and starts it when one has gone")
    func refuse() async throws {
        let tenants = tenants(limit: .refuse(2), partitions: 4)
        try await tenants.start()
        _ = try await tenants["a"].findOrStart()
        _ = try await tenants["b"].findOrStart()
        await #expect {
            try await tenants["c"].findOrStart()
        } throws: { error in
            guard let error = error as? CallError, case .tooManyProcesses("tenants/c", 2) = error else { return false }
            return error.isRetrySafe
        }
        _ = try await tenants["a"].findOrStart()
        try await tenants["a"].stop()
        _ = try await tenants["c"].findOrStart()
        #expect(Set(tenants.keys) == ["b", "c"])
        await tenants.stop()
    }

    @Test("ends the least recently used process over all partitions for a new one, and never one that is in use")
    func leastRecentlyUsed() async throws {
        let journal = Journal()
        let clock = ManualClock()
        let tenants = tenants(limit: .leastRecentlyUsed(3), partitions: 8, clock: clock)
        try await tenants.start()
        for key in ["a", "b", "c", "a"] { _ = try await tenants[key].call { $0.call() } }
        _ = try await tenants["d"].findOrStart()
        #expect(Set(tenants.keys) == ["a", "c", "d"])
        let busy = Task {
            try await tenants["c"].call { _ in
                journal.write("busy")
                await journal.wait(for: "go")
            }
        }
        await journal.wait(for: "busy")
        _ = try await tenants["e"].findOrStart()
        #expect(Set(tenants.keys) == ["c", "d", "e"])
        let others = ["d", "e"].map { key in
            Task {
                try await tenants[key].call { _ in
                    journal.write("\(key) busy")
                    await journal.wait(for: "go")
                }
            }
        }
        await journal.wait(for: "d busy")
        await journal.wait(for: "e busy")
        await #expect {
            try await tenants["f"].findOrStart()
        } throws: {
            if case CallError.tooManyProcesses = $0 { true } else { false }
        }
        journal.write("go")
        for call in [busy] + others { try await call.value }
        await tenants.stop()
    }

    @Test("a start that fails fails all who waited for it, once; the next call starts again")
    func failingStart() async throws {
        let journal = Journal()
        let isBroken = Mutex(true)
        let tenants = tenants { _, _ in
            journal.write("start")
            await journal.wait(for: "go")
            if isBroken.withLock({ $0 }) { throw TestFailure("no") }
        }
        try await tenants.start()
        let calls = (1...5).map { _ in Task { try await tenants["ada"].call { $0.call() } } }
        await journal.wait(for: "start")
        await settle { tenants["ada"].partition.waiting == 5 }
        journal.write("go")
        for call in calls {
            await #expect {
                try await call.value
            } throws: { error in
                guard case CallError.startFailed("tenants/ada", .crashed(let cause)) = error else { return false }
                return cause as? TestFailure == TestFailure("no")
            }
        }
        #expect(journal.entries.count { $0 == "start" } == 1)
        #expect(tenants.count == 0)
        isBroken.withLock { $0 = false }
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        await tenants.stop()
    }

    @Test("a start that hangs holds no caller longer than its timeout, and ends with the start's own")
    func hangingStart() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let tenants = KeyedSupervisor<String, Tenant>(
            "tenants",
            processOptions: ChildOptions(startTimeout: .seconds(30), killTimeout: .seconds(1)),
            clock: clock
        ) { key, _ in
            journal.write("start")
            await journal.wait(for: "go")
            return Tenant(key)
        }
        try await tenants.start()
        let call = Task { try await tenants["ada"].call(timeout: .seconds(2)) { $0.call() } }
        await journal.wait(for: "start")
        await settle { clock.pendingTimers == 2 }
        clock.advance(by: .seconds(2))
        await #expect {
            try await call.value
        } throws: {
            if case CallError.timeout("tenants/ada", .seconds(2)) = $0 { true } else { false }
        }
        let second = Task { try await tenants["ada"].call(timeout: .seconds(100)) { $0.call() } }
        await settle { tenants["ada"].partition.waiting == 1 }
        clock.advance(by: .seconds(28))
        clock.advance(by: .seconds(1))
        await #expect {
            try await second.value
        } throws: {
            if case CallError.startFailed("tenants/ada", _) = $0 { true } else { false }
        }
        let cancelled = Task { try await tenants["bob"].call(timeout: .seconds(100)) { $0.call() } }
        await settle { tenants["bob"].partition.waiting == 1 }
        cancelled.cancel()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        journal.write("go")
        await tenants.stop()
    }

    @Test("the intensity is each process's own: what crashes too often is given up alone, until the next call")
    func givesUp() async throws {
        let census = Census()
        let tenants = tenants(census, partitions: 1, intensity: .init(2, within: .seconds(3600)))
        let app = Supervisor("app", clock: ManualClock()) { tenants }
        try await app.start()
        let other = try await tenants["bob"].findOrStart()
        for _ in 1...3 {
            try await tenants["ada"].findOrStart().kill()
            try await LiveTree(app).settled()
        }
        #expect(tenants.keys == ["bob"])
        #expect(tenants["bob"].pid == other)
        #expect(other.isAlive)
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        #expect(census.starts(of: "ada") == 4)
        await app.stop()
    }

    @Test("or cools down, or ends the keyed supervisor, which its own starts again without processes")
    func exceeded() async throws {
        let clock = ManualClock()
        let cooling = tenants(
            intensity: .init(0, within: .seconds(3600)),
            whenExceeded: .cooldown(.seconds(5)),
            clock: clock
        )
        let escalating = KeyedSupervisor<String, Tenant>(
            "others",
            intensity: .init(0, within: .seconds(3600)),
            whenExceeded: .escalate
        ) { key, _ in Tenant(key) }
        let app = Supervisor("app", clock: clock) {
            cooling
            escalating
        }
        try await app.start()
        try await cooling["ada"].findOrStart().kill()
        let timers = clock.pendingTimers
        async let call = cooling["ada"].call(timeout: .seconds(10)) { $0.call() }
        await settle { clock.pendingTimers > timers }
        clock.advance(by: .seconds(5))
        #expect(try await call == 1)

        let pid = try await escalating["ada"].findOrStart()
        let other = try await escalating["bob"].findOrStart()
        pid.kill()
        _ = await other.exited()
        try await LiveTree(app).settled()
        #expect(escalating.count == 0)
        #expect(app.tree().children.map(\.restarts) == [0, 1])
        #expect(try await escalating["ada"].call { $0.call() } == 1)
        await app.stop()
    }

    @Test("ends with its supervisor: calls that wait and calls that come fail at once")
    func ends() async throws {
        let journal = Journal()
        let tenants = tenants { key, _ in
            guard key == "slow" else { return }
            journal.write("start")
            try await Task.sleep(for: .seconds(3600))
        }
        let app = Supervisor("app", clock: ManualClock()) { tenants }
        await #expect {
            try await tenants["ada"].call { $0.call() }
        } throws: {
            if case CallError.noProcess = $0 { true } else { false }
        }
        try await app.start()
        let pid = try await tenants["ada"].findOrStart()
        let waiting = Task { try await tenants["slow"].call(timeout: .seconds(3600)) { $0.call() } }
        await journal.wait(for: "start")
        await app.stop()
        #expect(!pid.isAlive)
        await #expect {
            try await waiting.value
        } throws: {
            if case CallError.noProcess = $0 { true } else { false }
        }
        await #expect {
            try await tenants["ada"].call { $0.call() }
        } throws: {
            if case CallError.noProcess = $0 { true } else { false }
        }
        #expect(tenants.count == 0)
        // And it can be started again.
        try await app.start()
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        await app.stop()
    }

    @Test("stands in one place at a time, and checks its settings")
    func problems() async throws {
        let tenants = tenants()
        let first = Supervisor("first", clock: ManualClock()) { tenants }
        let second = Supervisor("second", clock: ManualClock()) { tenants }
        try await first.start()
        await #expect(throws: SupervisionError.self) { try await second.start() }
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        await first.stop()
        try await second.start()
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        await second.stop()
        for wrong in [
            KeyedSupervisor<String, Tenant>("t", limit: .refuse(0)) { key, _ in Tenant(key) },
            KeyedSupervisor<String, Tenant>("t", idleTimeout: .zero) { key, _ in Tenant(key) },
            KeyedSupervisor<String, Tenant>("t", intensity: .init(-1, within: .seconds(1))) { key, _ in Tenant(key) },
        ] {
            await #expect {
                try await wrong.start()
            } throws: {
                if case SupervisionError.invalidSpecification = $0 { true } else { false }
            }
        }
    }

    @Test("a start that returns nil starts nothing; keys of any kind make paths that can be read")
    func ignoredAndLabels() async throws {
        let keyed = KeyedSupervisor<[String], Tenant>(
            "keyed",
            clock: ManualClock(),
            label: { $0.joined(separator: "/") }
        ) { key, _ in
            key.isEmpty ? nil : Tenant(key[0])
        }
        try await keyed.start()
        await #expect {
            try await keyed[[]].call { $0.call() }
        } throws: {
            if case CallError.noProcess = $0 { true } else { false }
        }
        #expect(keyed.count == 0)
        #expect(try await keyed[["a", "b\n"]].call { $0.call() } == 1)
        #expect(keyed[["a", "b\n"]].path == "keyed/a%2Fb%0A")
        #expect(keyed[["a%2Fb%0A"]].path == "keyed/a%252Fb%250A")
        #expect(keyed[["#0"]].path == "keyed/%230")
        #expect(keyed[[""]].path == "keyed/%")
        // What ends a line or turns its direction in somebody's log viewer.
        #expect(keyed[["a\u{2028}b\u{85}\u{202E}c\u{7F}"]].path == "keyed/a%E2%80%A8b%C2%85%E2%80%AEc%7F")
        #expect(keyed[["Åsa 👩‍🚀"]].path == "keyed/Åsa 👩‍🚀")
        #expect(keyed[["C#"]].path == "keyed/C#")
        #expect(keyed[[String(repeating: "x", count: 10_000)]].path.count < 200)
        await keyed.stop()
    }

    @Test("workers by key: they run, are asked to stop when idle, and end with the tree")
    func workers() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let keyed = KeyedSupervisor<String, Polite>("polite", idleTimeout: .seconds(1), clock: clock) { _, context in
            Polite(context, journal)
        }
        try await keyed.start()
        let pid = try await keyed["ada"].findOrStart()
        await journal.wait(for: "ada runs")
        clock.advance(by: .seconds(1))
        _ = await pid.exited()
        #expect(journal.entries.contains("ada was asked: true"))
        await keyed.stop()
    }

    @Test("calls, kills, stops and idle ends of a few keys at once: no call is lost, no key has two processes")
    func storm() async throws {
        let census = Census()
        let tenants = tenants(
            census,
            limit: .leastRecentlyUsed(16),
            idleTimeout: .milliseconds(2),
            partitions: 3,
            intensity: .init(1_000_000, within: .seconds(1)),
            clock: SystemSupervisionClock.shared
        )
        try await tenants.start()
        let outcomes = Journal()
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<8 {
                group.addTask {
                    for round in 0..<200 {
                        let key = "\((index * 7 + round) % 5)"
                        do {
                            let found = try await tenants[key].call(timeout: .seconds(60)) { $0.key }
                            #expect(found == key)
                            outcomes.write("done")
                        } catch CallError.exited {
                            // Killed while the body ran.
                            outcomes.write("exited")
                        } catch {
                            Issue.record("\(error)")
                        }
                    }
                }
            }
            group.addTask {
                for round in 0..<200 {
                    tenants["\(round % 5)"].pid?.kill()
                    try? await tenants["\((round + 2) % 5)"].stop()
                    await Task.yield()
                }
            }
        }
        #expect(outcomes.entries.count == 1600)
        #expect(census.mostOfOneKey == 1)
        await tenants.stop()
        #expect(census.living == 0)
    }

    @Test("a call whose process ended for good before the body began runs once, on another")
    func lostBeforeTheBody() async throws {
        let gates = Mutex<[Gate]>([])
        let keyed = KeyedSupervisor<String, Gated>("keyed", processRestart: .temporary, clock: ManualClock()) { _, _ in
            let gate = Gate()
            gates.withLock { $0.append(gate) }
            return Gated(gate)
        }
        try await keyed.start()
        let pid = try await keyed["ada"].findOrStart()
        let gate = try #require(gates.withLock { $0.first })
        gate.close()
        let call = Task { try await keyed["ada"].call { $0.call() } }
        await settle { gate.waiting == 1 }
        pid.kill()
        #expect(try await call.value == 1)
        #expect(keyed["ada"].pid != pid)
        // The first one's is still waiting, and does not run.
        gate.open()
        #expect(try await keyed["ada"].call { $0.call() } == 2)
        #expect(gates.withLock { $0.count } == 2)
        await keyed.stop()
    }

    @Test("a call while the keyed supervisor stops fails at once, and leaves no process behind")
    func callsWhileStopping() async throws {
        for _ in 1...20 {
            let census = Census()
            let tenants = tenants(census, partitions: 2)
            try await tenants.start()
            _ = try await tenants["a"].findOrStart()
            await withTaskGroup(of: Void.self) { group in
                for index in 0..<20 {
                    group.addTask {
                        do {
                            _ = try await tenants["\(index % 5)"].findOrStart()
                        } catch CallError.noProcess {
                            return
                        } catch {
                            Issue.record("\(error)")
                        }
                    }
                }
                group.addTask { await tenants.stop() }
            }
            await tenants.stop()
            #expect(census.living == 0)
            #expect(tenants.count == 0)
        }
    }

    @Test("a start that fails gives its place back, refused or evicted for it", arguments: [true, false])
    func failedStartAtTheLimit(refuses: Bool) async throws {
        let tenants = tenants(limit: refuses ? .refuse(2) : .leastRecentlyUsed(2)) { key, _ in
            if key.hasPrefix("bad") { throw TestFailure(key) }
        }
        try await tenants.start()
        _ = try await tenants["a"].findOrStart()
        for round in 0..<5 {
            await #expect(throws: CallError.self) { try await tenants["bad \(round)"].findOrStart() }
        }
        _ = try await tenants["b"].findOrStart()
        #expect(Set(tenants.keys) == ["a", "b"])
        await tenants.stop()
        // The places are counted anew after a restart.
        try await tenants.start()
        _ = try await tenants["c"].findOrStart()
        _ = try await tenants["d"].findOrStart()
        #expect(tenants.count == 2)
        await tenants.stop()
    }

    @Test("many new keys at once at the limit: all get a process in turn when others are idle, or are refused")
    func manyAtTheLimit() async throws {
        let evicting = tenants(limit: .leastRecentlyUsed(4), partitions: 4)
        try await evicting.start()
        let refusing = tenants(limit: .refuse(4), partitions: 4)
        try await refusing.start()
        for supervisor in [evicting, refusing] {
            let found = await withTaskGroup(of: Bool.self) { group in
                for index in 0..<40 {
                    group.addTask {
                        do {
                            _ = try await supervisor["\(index)"].findOrStart()
                            return true
                        } catch CallError.tooManyProcesses(_, limit: 4) {
                            return false
                        } catch {
                            Issue.record("\(error)")
                            return false
                        }
                    }
                }
                return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
            }
            #expect(found >= 4)
            #expect(supervisor.count <= 4)
            if supervisor === refusing { #expect(found == 4) }
            // Whatever happened, one more can be had where something is idle.
            if supervisor === evicting { _ = try await supervisor["one more"].findOrStart() }
            await supervisor.stop()
        }
    }

    @Test("a reference to a process that has ended for good says so, and the key's goes on", arguments: [true, false])
    func endedProcess(whileWaiting: Bool) async throws {
        let references = Mutex<[ChildReference<Tenant>]>([])
        let tenants = tenants { _, context in references.withLock { $0.append(context.reference(as: Tenant.self)) } }
        try await tenants.start()
        let pid = try await tenants["ada"].findOrStart()
        let reference = try #require(references.withLock { $0.first })
        try await tenants["ada"].stop()
        await #expect {
            try await reference.call(whileRestarting: whileWaiting ? .wait : .fail) { $0.call() }
        } throws: {
            if case CallError.noProcess("tenants/ada") = $0 { true } else { false }
        }
        #expect(tenants["ada"].pid == nil)
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        #expect(!pid.isAlive)
        // Nor does the old reference reach the next process of the key.
        await #expect(throws: CallError.self) { try await reference.call { $0.call() } }
        await tenants.stop()
    }

    @Test("a process that waits out its backoff is stopped or ends as idle like any other", arguments: [true, false])
    func endsWhileRestarting(isStopped: Bool) async throws {
        let clock = ManualClock()
        let tenants = tenants(
            idleTimeout: isStopped ? nil : .seconds(5),
            backoff: Backoff(minimum: .seconds(60), maximum: .seconds(60), jitter: 0),
            clock: clock
        )
        try await tenants.start()
        let first = try await tenants["ada"].findOrStart()
        first.kill()
        await settle { tenants["ada"].pid == nil }
        #expect(tenants.keys == ["ada"])
        if isStopped { try await tenants["ada"].stop() } else { clock.advance(by: .seconds(5)) }
        await settle { tenants.count == 0 }
        #expect(try await tenants["ada"].call { $0.call() } == 1)
        // A call that waits for the restart is under way: it has its time first.
        tenants["ada"].pid?.kill()
        let timers = clock.pendingTimers
        let call = Task { try await tenants["ada"].call(timeout: .seconds(10)) { $0.call() } }
        await settle { clock.pendingTimers > timers }
        let stopping = Task { try await tenants["ada"].stop() }
        await settle { tenants["ada"].partition.isStopping("ada") }
        #expect(tenants.keys == ["ada"])
        clock.advance(by: .seconds(10))
        await #expect {
            try await call.value
        } throws: {
            if case CallError.restarting("tenants/ada") = $0 { true } else { false }
        }
        try await stopping.value
        #expect(tenants.keys.isEmpty)
        await tenants.stop()
    }

    @Test("what waits for itself ends with its timeout: a stop of one's own key in a call, a call of it in one's start")
    func waitsForItself() async throws {
        let clock = ManualClock()
        let own = Mutex<KeyedSupervisor<String, Tenant>?>(nil)
        let tenants = tenants(clock: clock) { key, _ in
            guard key == "eve" else { return }
            _ = try await own.withLock { $0 }?["eve"].call(timeout: .seconds(3)) { $0.call() }
        }
        own.withLock { $0 = tenants }
        try await tenants.start()
        let pid = try await tenants["ada"].findOrStart()
        let stopping = Task {
            try await tenants["ada"].call(timeout: .seconds(2)) { _ in try await tenants["ada"].stop() }
        }
        await settle { tenants["ada"].partition.isStopping("ada") }
        clock.advance(by: .seconds(2))
        await #expect {
            try await stopping.value
        } throws: {
            if case CallError.timeout("tenants/ada", .seconds(2)) = $0 { true } else { false }
        }
        _ = await pid.exited()
        await settle { tenants.count == 0 }
        let starting = Task { try await tenants["eve"].findOrStart(timeout: .seconds(100)) }
        await settle { tenants["eve"].partition.waiting == 2 }
        clock.advance(by: .seconds(3))
        await #expect {
            try await starting.value
        } throws: {
            if case CallError.startFailed("tenants/eve", .crashed(let cause)) = $0 { cause is CallError } else { false }
        }
        await tenants.stop()
        own.withLock { $0 = nil }
    }

    @Test("ends while a thousand processes start: every call is told, and none stays")
    func endsWhileManyStart() async throws {
        let census = Census()
        let begun = Atomic(0)
        let tenants = tenants(census) { _, _ in
            begun.add(1, ordering: .relaxed)
            try await Task.sleep(for: .seconds(3600))
        }
        try await tenants.start()
        let calls = (0..<1000).map { index in Task { try await tenants["\(index)"].call { $0.call() } } }
        await settle { begun.load(ordering: .relaxed) == 1000 }
        await tenants.stop()
        for call in calls {
            await #expect {
                try await call.value
            } throws: {
                if case CallError.noProcess = $0 { true } else { false }
            }
        }
        #expect(tenants.keys.isEmpty)
        #expect(census.living == 0)
    }

    @Test("100,000 keys: each has a process of its own")
    func many() async throws {
        let silent = Logger(label: "q") { _ in SwiftLogNoOpLogHandler() }
        let keyed = KeyedSupervisor<Int, Counter>("many", logger: silent, clock: ManualClock()) { _, _ in Counter() }
        try await keyed.start()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for part in 0..<4 {
                group.addTask {
                    for key in stride(from: part, to: 100_000, by: 4) { try await keyed[key].findOrStart() }
                }
            }
            try await group.waitForAll()
        }
        #expect(keyed.count == 100_000)
        #expect(try await keyed[77_777].call { $0.increment() } == 1)
        #expect(try await keyed[77_778].call { $0.increment() } == 1)
        await keyed.stop()
        #expect(keyed.count == 0)
    }
}
