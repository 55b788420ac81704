import Logging
import Supervision
import SupervisionTesting
import Synchronization
import Testing

@Suite("A dynamic supervisor")
struct DynamicSupervisorTests {
    private func start(
        maximumChildren: Int? = nil,
        intensity: RestartIntensity = .init(3, within: .seconds(3600)),
        clock: any SupervisionClock = SystemSupervisionClock.shared
    ) async throws -> (Supervisor, DynamicSupervisorReference) {
        let supervisor = Supervisor("app", clock: clock) {
            DynamicSupervisor("sessions", maximumChildren: maximumChildren, intensity: intensity)
        }
        try await supervisor.start()
        return (supervisor, try supervisor.dynamicSupervisor("sessions"))
    }

    @Test("starts children on demand; each is called through its reference")
    func start() async throws {
        let (supervisor, sessions) = try await start()
        let first = try #require(try await sessions.startChild(Child("session") { _ in Counter() }, as: Counter.self))
        let second = try #require(try await sessions.startChild(Child("session") { _ in Counter() }, as: Counter.self))
        #expect(try await first.call { $0.increment() } == 1)
        #expect(try await second.call { $0.increment() } == 1)
        #expect(first.path != second.path)
        let counts = try sessions.countChildren()
        #expect([counts.specifications, counts.active, counts.supervisors, counts.workers] == [2, 2, 0, 2])
        await supervisor.stop()
    }

    @Test("a permanent child keeps its reference and gets a new pid")
    func restart() async throws {
        let (supervisor, sessions) = try await start()
        let child = try #require(try await sessions.startChild(Child("session") { _ in Counter() }, as: Counter.self))
        let pid = try #require(child.pid)
        pid.kill()
        try await LiveTree(supervisor).settled()
        #expect(child.pid != nil)
        #expect(child.pid != pid)
        #expect(try await child.call { $0.increment() } == 1)
        await supervisor.stop()
    }

    @Test("whoever terminates a child that is being terminated is answered when it is down")
    func terminateTwice() async throws {
        let journal = Journal()
        let (supervisor, sessions) = try await start()
        let pid = try #require(
            try await sessions.startChild(
                Child("session", options: ChildOptions(shutdown: .infinity)) { context in
                    context.pid.onExit { _ in journal.write("down") }
                    return SlowToStop(context, journal)
                }
            )
        )
        await journal.wait(for: "runs")
        let first = Task { try await sessions.terminateChild(pid) }
        await journal.wait(for: "asked")
        let others = (1...3).map { _ in
            Task {
                try await sessions.terminateChild(pid)
                journal.write("answered")
            }
        }
        for _ in 1...100 { await Task.yield() }
        journal.write("go")
        try await first.value
        for other in others {
            do { try await other.value } catch AdministrationError.notFound { journal.write("answered") }
        }
        #expect(journal.entries == ["runs", "asked", "go", "down", "answered", "answered", "answered"])
        await supervisor.stop()
    }

    @Test("a temporary child that has ended leaves nothing, and its slot serves another")
    func temporary() async throws {
        let (supervisor, sessions) = try await start()
        let child = try #require(
            try await sessions.startChild(Child("session", restart: .temporary) { _ in Counter() }, as: Counter.self)
        )
        child.pid?.kill()
        try await LiveTree(supervisor).settled()
        #expect(try sessions.countChildren().specifications == 0)
        let other = try #require(try await sessions.startChild(Child("session") { _ in Counter() }, as: Counter.self))
        #expect(child.pid == nil)
        await #expect(throws: CallError.self) { try await child.call { $0.increment() } }
        #expect(try await other.call { $0.increment() } == 1)
        await supervisor.stop()
    }

    @Test("refuses more children than it may have, counting those that are being restarted")
    func maximumChildren() async throws {
        let clock = ManualClock()
        let (supervisor, sessions) = try await start(maximumChildren: 1, clock: clock)
        let backoff = Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0)
        let pid = try #require(
            try await sessions.startChild(Child("session", options: ChildOptions(backoff: backoff)) { _ in Counter() })
        )
        pid.kill()
        await #expect {
            try await sessions.startChild(Child("session") { _ in Counter() })
        } throws: { error in
            guard case AdministrationError.tooManyChildren("app/sessions") = error else { return false }
            return true
        }
        try await sessions.terminateChild(pid)
        try await sessions.startChild(Child("session") { _ in Counter() })
        await supervisor.stop()
    }

    @Test("a failing start is the caller's error, and the supervisor is unharmed")
    func failingStart() async throws {
        let (supervisor, sessions) = try await start(intensity: .init(0, within: .seconds(1)))
        for _ in 1...10 {
            await #expect {
                try await sessions.startChild(Child("session") { _ -> Counter? in throw TestFailure("no") })
            } throws: { error in
                guard case AdministrationError.startFailed("app/sessions/session", .crashed(let cause)) = error
                else { return false }
                return cause as? TestFailure == TestFailure("no")
            }
        }
        #expect(try await sessions.startChild(Child("session") { _ -> Counter? in nil }) == nil)
        #expect(try sessions.countChildren().specifications == 0)
        await supervisor.stop()
    }

    @Test("terminates a child by its pid; a foreign pid is not found")
    func terminate() async throws {
        let (supervisor, sessions) = try await start()
        let pid = try #require(try await sessions.startChild(Child("session") { _ in Counter() }))
        let foreign = try #require(supervisor.pid)
        await #expect(throws: AdministrationError.self) { try await sessions.terminateChild(foreign) }
        try await sessions.terminateChild(pid)
        guard case .shutdown = await pid.exited() else {
            Issue.record("unexpected reason")
            return
        }
        await #expect(throws: AdministrationError.self) { try await sessions.terminateChild(pid) }
        await supervisor.stop()
    }

    @Test("gives up when the intensity is exceeded, and its own supervisor starts it again, empty")
    func intensity() async throws {
        let (supervisor, sessions) = try await start(intensity: .init(1, within: .seconds(3600)))
        let child = try #require(try await sessions.startChild(Child("session") { _ in Counter() }, as: Counter.self))
        try await sessions.startChild(Child("other") { _ in Counter() })
        for _ in 1...2 {
            child.pid?.kill()
            try await LiveTree(supervisor).settled()
        }
        #expect(try sessions.countChildren().specifications == 0)
        #expect(child.pid == nil)
        await supervisor.stop()
    }

    @Test("stops all children side by side")
    func parallelStop() async throws {
        let journal = Journal()
        let (supervisor, sessions) = try await start()
        let count = 20
        for _ in 1...count {
            try await sessions.startChild(Child("worker") { Barrier($0, journal, count) })
        }
        await journal.wait(for: "runs", count: count)
        // Each ends only when all have been asked: one after the other, this would never return.
        await supervisor.stop()
        #expect(journal.entries.count { $0 == "ends" } == count)
    }
}

/// Ends when it and all others have been asked to.
actor Barrier: Worker {
    private let stop: StopRequest
    private let journal: Journal
    private let count: Int

    init(_ context: ChildContext, _ journal: Journal, _ count: Int) {
        stop = context.stopRequest
        self.journal = journal
        self.count = count
    }

    func run() async throws {
        journal.write("runs")
        await stop.wait()
        journal.write("asked")
        await journal.wait(for: "asked", count: count)
        journal.write("ends")
    }
}

@Suite("A child found or started by its name in a registry")
struct NamedChildTests {
    @Test("of many that ask at once one starts it, and all get it, without an error in the log")
    func once() async throws {
        let records = LogRecords()
        let supervisor = Supervisor("app", logger: records.logger) { DynamicSupervisor("sessions") }
        try await supervisor.start()
        let sessions = try supervisor.dynamicSupervisor("sessions")
        let registry = Registry<String, ChildReference<Counter>>()
        let starts = Journal()
        let references = try await withThrowingTaskGroup(of: ChildReference<Counter>?.self) { group in
            for _ in 1...50 {
                group.addTask {
                    try await sessions.startChild(
                        Child("ada") { _ in
                            starts.write("start")
                            await Task.yield()
                            return Counter()
                        },
                        registeredAs: "ada",
                        in: registry
                    )
                }
            }
            return try await group.reduce(into: []) { $0.append($1) }
        }
        #expect(starts.entries.count == 1)
        #expect(Set(references.map { $0?.path }).count == 1)
        for reference in references { _ = try await reference?.call { $0.increment() } }
        #expect(try await references[0]?.call { $0.value } == 50)
        #expect(try sessions.countChildren().specifications == 1)
        #expect(records.levels.allSatisfy { $0 < .warning })
        await supervisor.stop()
        #expect(registry.count == 0)
    }

    @Test("fifty that ask again and again while it is ended under them never have two, and log no error")
    func chaos() async throws {
        let records = LogRecords()
        let supervisor = Supervisor("app", logger: records.logger) {
            DynamicSupervisor("sessions", intensity: .init(1_000_000, within: .seconds(1)))
        }
        try await supervisor.start()
        let sessions = try supervisor.dynamicSupervisor("sessions")
        let registry = Registry<String, ChildReference<Counter>>()
        let living = Mutex<(last: Pid?, overlaps: Int, count: Int)>((nil, 0, 0))
        // Temporary and ended in order: its end is no error either.
        let child = Child("ada", restart: .temporary) { context in
            living.withLock { living in
                // Not by its watchers, who are told after its name is free.
                if living.last?.isAlive == true { living.overlaps += 1 }
                living.last = context.pid
                living.count += 1
            }
            context.pid.onExit { _ in living.withLock { $0.count -= 1 } }
            return Counter()
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 1...50 {
                group.addTask {
                    for round in 1...20 {
                        let found = try await sessions.startChild(child, registeredAs: "ada", in: registry)
                        #expect(found != nil)
                        if (index + round) % 7 == 0 { found?.pid?.exit(.shutdown()) }
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(living.withLock { $0.overlaps } == 0)
        #expect(records.levels.allSatisfy { $0 < .warning }, "\(records.messages.suffix(20))")
        await supervisor.stop()
        #expect(living.withLock { $0.count } == 0)
    }

    @Test("it is found again after a restart, and whoever waited for a start that failed tries itself")
    func again() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("sessions", maximumChildren: 1) }
        try await supervisor.start()
        let sessions = try supervisor.dynamicSupervisor("sessions")
        let registry = Registry<String, ChildReference<Counter>>()
        let journal = Journal()
        let failing = Task {
            try await sessions.startChild(
                Child("ada") { _ -> Counter? in
                    journal.write("begun")
                    await journal.wait(for: "go")
                    throw TestFailure()
                },
                registeredAs: "ada",
                in: registry
            )
        }
        await journal.wait(for: "begun")
        let second = Task {
            try await sessions.startChild(Child("ada") { _ in Counter() }, registeredAs: "ada", in: registry)
        }
        journal.write("go")
        await #expect(throws: AdministrationError.self) { try await failing.value }
        let child = try #require(try await second.value)
        child.pid?.kill()
        try await LiveTree(supervisor).settled()
        let found = try await sessions.startChild(Child("ada") { _ in Counter() }, registeredAs: "ada", in: registry)
        #expect(found?.pid == child.pid)
        #expect(found?.pid != nil)
        #expect(
            try await sessions.startChild(Child("no") { _ -> Counter? in nil }, registeredAs: "ada", in: registry)
                != nil
        )
        await supervisor.stop()
    }
}

/// A worker that is asked to stop and takes its time.
private actor SlowToStop: Worker {
    private let stop: StopRequest
    private let journal: Journal

    init(_ context: ChildContext, _ journal: Journal) {
        stop = context.stopRequest
        self.journal = journal
    }

    func run() async {
        journal.write("runs")
        await stop.wait()
        journal.write("asked")
        await journal.wait(for: "go")
    }
}
