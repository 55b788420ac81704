import ServiceLifecycle
import SupervisionTesting
import Synchronization
import Testing

@testable import Supervision

@Suite("A child that starts inline", .timeLimit(.minutes(2)))
struct InlineStartTests {
    @TaskLocal
    static var local = "none"

    private let many = RestartIntensity(1_000_000, within: .seconds(3600))

    @Test("is up again when the kill returns")
    func restart() async throws {
        let supervisor = Supervisor("app", intensity: many) {
            Child.inline("counter") { _ in Counter() }
        }
        try await supervisor.start()
        let counter = try supervisor.child("counter", as: Counter.self)
        for number in 1...100 {
            let before = try #require(counter.pid)
            before.kill()
            let after = try #require(counter.pid)
            #expect(after != before)
            #expect(after.isAlive)
            #expect(supervisor.tree().children.first?.restarts == number)
        }
        #expect(try await counter.call { $0.increment() } == 1)
        await supervisor.stop()
    }

    @Test("runs in the task of whoever starts it, and sees its task-local values")
    func taskLocals() async throws {
        let seen = Journal()
        let supervisor = Supervisor("app") { DynamicSupervisor("sessions") }
        try await supervisor.start()
        let sessions = try supervisor.dynamicSupervisor("sessions")
        let made = Mutex<Task<Void, Never>?>(nil)
        try await InlineStartTests.$local.withValue("caller") {
            _ = try await sessions.startChild(
                Child.inline("session") { _ in
                    seen.write(InlineStartTests.local)
                    let task = Task { seen.write(InlineStartTests.local) }
                    made.withLock { $0 = task }
                    return Counter()
                }
            )
        }
        await made.withLock { $0 }?.value
        #expect(seen.entries == ["caller", "caller"])
        await supervisor.stop()
    }

    @Test("may kill itself in its start closure, again and again, without a recursion", arguments: [true, false])
    func killsItself(decidesDirectly: Bool) async throws {
        try await FaultInjection.$decidesDirectly.withValue(decidesDirectly) { try await killsItself() }
    }

    private func killsItself() async throws {
        let starts = Mutex(0)
        let supervisor = Supervisor("app", intensity: many) {
            Child.inline("restless") { context in
                let count = starts.withLock { starts in
                    starts += 1
                    return starts
                }
                if count <= 20_000 { context.pid.kill() }
                return Counter()
            }
            Child.inline("sibling") { _ in Counter() }
        }
        // The first start fails, since it is killed: the boot does.
        await #expect(throws: SupervisionError.self) { try await supervisor.start() }
        let sessions = Supervisor("later", intensity: many) {
            Child.inline("restless") { context in
                let count = starts.withLock { starts in
                    starts += 1
                    return starts
                }
                if count > 2, count <= 20_000 { context.pid.kill() }
                return Counter()
            }
        }
        try await sessions.start()
        try sessions.child("restless", as: Counter.self).pid?.kill()
        try await LiveTree(sessions).settled()
        #expect(starts.withLock { $0 } == 20_001)
        #expect(try sessions.child("restless", as: Counter.self).pid?.isAlive == true)
        await sessions.stop()
    }

    @Test(
        "may kill its sibling, its supervisor, register a name and ask for a child in its start closure",
        arguments: [true, false],
        [true, false]
    )
    func actsInside(startsInline: Bool, decidesDirectly: Bool) async throws {
        try await FaultInjection.$decidesDirectly.withValue(decidesDirectly) { try await actsInside(startsInline) }
    }

    private func actsInside(_ startsInline: Bool) async throws {
        @Sendable
        func child(_ id: String, _ start: @escaping @Sendable (ChildContext) throws -> Counter?) -> Child {
            startsInline ? Child.inline(id, start: start) : Child(id) { try start($0) }
        }
        let registry = Registry<String, Int>()
        let asked = Mutex<Task<Pid?, any Error>?>(nil)
        let isFirst = Mutex(true)
        let supervisor = Supervisor("app", intensity: many) {
            DynamicSupervisor("sessions", intensity: many)
            Supervisor("inner", intensity: RestartIntensity(1_000_000, within: .seconds(3600))) {
                child("victim") { _ in Counter() }
                child("actor") { context in
                    try registry.register("actor", 1, for: context.pid)
                    context.supervisor.child("victim", as: Counter.self).pid?.kill()
                    let isFirst = isFirst.withLock { isFirst in
                        defer { isFirst = false }
                        return isFirst
                    }
                    if !isFirst { return Counter() }
                    let sessions = context.supervisor.root.dynamicSupervisor("sessions")
                    let task = Task { try await sessions.startChild(child("session") { _ in Counter() }) }
                    asked.withLock { $0 = task }
                    context.supervisor.pid.kill()
                    return Counter()
                }
            }
        }
        do {
            try await supervisor.start()
        } catch {
            // Its supervisor was killed while it booted: so may the tree have been.
            #expect(error is SupervisionError)
        }
        _ = await asked.withLock { $0 }?.result
        await supervisor.stop()
        #expect(registry.lookup("actor") == nil)
    }

    @Test("fails and is ignored as any other")
    func outcomes() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("sessions") }
        try await supervisor.start()
        let sessions = try supervisor.dynamicSupervisor("sessions")
        await #expect(throws: AdministrationError.self) {
            try await sessions.startChild(Child.inline("fails") { _ -> Counter? in throw TestFailure() })
        }
        #expect(try await sessions.startChild(Child.inline("ignored") { _ -> Counter? in nil }) == nil)
        #expect(try sessions.countChildren().specifications == 0)
        let tree = Supervisor("app") {
            Child.inline("fails") { _ -> Counter? in throw TestFailure() }
        }
        await #expect(throws: SupervisionError.self) { try await tree.start() }
        await supervisor.stop()
    }

    @Test("gives up at its supervisor's intensity, and waits out a backoff", arguments: [true, false])
    func limits(decidesDirectly: Bool) async throws {
        try await FaultInjection.$decidesDirectly.withValue(decidesDirectly) { try await limits() }
    }

    private func limits() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("app", intensity: RestartIntensity(2, within: .seconds(5)), clock: clock) {
            Child.inline("eager") { _ in Counter() }
            Child.inline(
                "patient",
                options: ChildOptions(backoff: Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0))
            ) { _ in
                Counter()
            }
        }
        try await supervisor.start()
        let patient = try supervisor.child("patient", as: Counter.self)
        patient.pid?.kill()
        #expect(patient.pid == nil)
        clock.advance(by: .seconds(1))
        #expect(patient.pid?.isAlive == true)
        let eager = try supervisor.child("eager", as: Counter.self)
        eager.pid?.kill()
        #expect(eager.pid?.isAlive == true)
        eager.pid?.kill()
        try await LiveTree(supervisor).settled()
        #expect(supervisor.pid == nil)
    }

    @Test("is killed by many threads at once, and has as many incarnations as were killed", arguments: [true, false])
    func concurrently(decidesDirectly: Bool) async throws {
        try await FaultInjection.$decidesDirectly.withValue(decidesDirectly) { try await concurrently() }
    }

    private func concurrently() async throws {
        let starts = Mutex(0)
        let supervisor = Supervisor("app", intensity: many) {
            for id in ["a", "b", "c", "d"] {
                Child.inline(id) { _ in
                    starts.withLock { $0 += 1 }
                    return Counter()
                }
            }
        }
        try await supervisor.start()
        await withTaskGroup(of: Void.self) { group in
            for id in ["a", "b", "c", "d"] {
                for _ in 0..<2 {
                    group.addTask {
                        for _ in 0..<500 {
                            (try? supervisor.child(id, as: Counter.self))?.pid?.kill()
                            await Task.yield()
                        }
                    }
                }
            }
        }
        try await LiveTree(supervisor).settled()
        let tree = supervisor.tree()
        #expect(tree.children.map(\.restarts).reduce(0, +) == starts.withLock { $0 } - 4)
        #expect(tree.children.allSatisfy { $0.pid?.isAlive == true })
        await supervisor.stop()
    }
}

@Suite("A template of children", .timeLimit(.minutes(5)))
struct ChildTemplateTests {
    private actor Session {
        let user: String
        init(_ user: String) { self.user = user }
    }

    private actor Poller: Worker {
        private let user: String
        private let journal: Journal
        init(_ user: String, _ journal: Journal) { (self.user, self.journal) = (user, journal) }

        func run() async throws {
            journal.write(user)
            try await Task.sleep(for: .seconds(3600))
        }
    }

    private func start() async throws -> (Supervisor, DynamicSupervisorReference) {
        let supervisor = Supervisor("app") {
            DynamicSupervisor("sessions", intensity: RestartIntensity(1000, within: .seconds(3600)))
        }
        try await supervisor.start()
        return (supervisor, try supervisor.dynamicSupervisor("sessions"))
    }

    @Test("gives every child its argument, and each incarnation of it the same", arguments: [false, true])
    func arguments(isInline: Bool) async throws {
        let (supervisor, sessions) = try await start()
        let template =
            isInline
            ? ChildTemplate.inline("session") { (user: String, _) in Session(user) }
            : ChildTemplate("session") { (user: String, _) in Session(user) }
        var references: [ChildReference<Session>] = []
        for number in 0..<100 {
            references.append(try #require(try await sessions.startChild(template, with: "user \(number)")))
        }
        for reference in references { reference.pid?.kill() }
        try await LiveTree(supervisor).settled()
        for (number, reference) in references.enumerated() {
            #expect(try await reference.call { $0.user } == "user \(number)")
        }
        #expect(Set(references.map(\.path)).count == 100)
        await supervisor.stop()
    }

    @Test("runs workers")
    func workers() async throws {
        let (supervisor, sessions) = try await start()
        let journal = Journal()
        let template = ChildTemplate("poller") { (user: String, _) in Poller(user, journal) }
        let poller = try #require(try await sessions.startChild(template, with: "ada"))
        await journal.wait(for: "ada")
        poller.pid?.kill()
        await journal.wait(for: "ada", count: 2)
        await supervisor.stop()
    }

    private actor Server: Service {
        private let user: String
        private let journal: Journal
        init(_ user: String, _ journal: Journal) { (self.user, self.journal) = (user, journal) }

        func run() async throws {
            journal.write(user)
            try await gracefulShutdown()
            journal.write("stopped")
        }
    }

    @Test("runs services, and shuts them down gracefully")
    func services() async throws {
        let (supervisor, sessions) = try await start()
        let journal = Journal()
        let template = ChildTemplate("server") { (user: String, _) in Server(user, journal) }
        _ = try await sessions.startChild(template, with: "ada")
        await journal.wait(for: "ada")
        await supervisor.stop()
        #expect(journal.entries == ["ada", "stopped"])
    }

    @Test("with a wrong id or a start closure that fails is refused with an error")
    func refused() async throws {
        let (supervisor, sessions) = try await start()
        let wrong = ChildTemplate("a/b") { (user: String, _) in Session(user) }
        await #expect(throws: AdministrationError.self) { _ = try await sessions.startChild(wrong, with: "") }
        let failing = ChildTemplate("fails") { (_: String, _) -> Session? in throw TestFailure() }
        await #expect(throws: AdministrationError.self) { _ = try await sessions.startChild(failing, with: "") }
        let ignored = ChildTemplate("ignored") { (_: String, _) -> Session? in nil }
        #expect(try await sessions.startChild(ignored, with: "") == nil)
        #expect(try sessions.countChildren().specifications == 0)
        await supervisor.stop()
    }
}
