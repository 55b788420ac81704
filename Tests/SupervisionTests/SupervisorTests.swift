import Supervision
import SupervisionTesting
import Synchronization
import Testing

@Suite("A supervisor")
struct SupervisorTests {
    @Test("one that is a part of another's tree cannot be started on its own; the tree can")
    func partOfATree() async throws {
        let inner = Supervisor("inner") { Child("a") { _ in Counter() } }
        let sessions = DynamicSupervisor("sessions")
        let tasks = TaskSupervisor("tasks")
        let keyed = KeyedSupervisor<String, Counter>("keyed") { _, _ in Counter() }
        let counters = PartitionSupervisor<Counter>("counters", partitions: 2) { id, _ in Child(id) { _ in Counter() } }
        let app = Supervisor("app") {
            inner
            sessions
            tasks
            keyed
            counters
        }
        let starts: [(String, () async throws -> Void)] = [
            ("inner", inner.start), ("inner", inner.run), ("sessions", sessions.start), ("tasks", tasks.start),
            ("keyed", keyed.start), ("counters", counters.supervisor.start),
        ]
        for (name, start) in starts {
            await #expect {
                try await start()
            } throws: {
                if case SupervisionError.partOfAnotherTree(name) = $0 { true } else { false }
            }
        }
        try await app.start()
        #expect(try await keyed["ada"].call { $0.increment() } == 1)
        await app.stop()
    }

    @Test("starts its children in order and stops them in reverse")
    func order() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") {
            for name in ["a", "b", "c"] {
                Child(name) { context in
                    journal.write("start \(name)")
                    context.pid.onExit { _ in journal.write("end \(name)") }
                    return Counter()
                }
            }
        }
        try await supervisor.start()
        #expect(journal.entries == ["start a", "start b", "start c"])
        await supervisor.stop()
        #expect(journal.entries.suffix(3) == ["end c", "end b", "end a"])
        #expect(supervisor.pid == nil)
    }

    @Test("restarts a killed actor; a reference goes on to the new incarnation")
    func restartOfActor() async throws {
        let supervisor = Supervisor("app") { Child("counter") { _ in Counter() } }
        try await supervisor.start()
        let counter = try supervisor.child("counter", as: Counter.self)
        #expect(try await counter.call { $0.increment() } == 1)
        let first = try #require(counter.pid)
        first.kill()
        try await LiveTree(supervisor).settled()
        #expect(!first.isAlive)
        #expect(counter.pid != first)
        #expect(try await counter.call { $0.increment() } == 1)
        await supervisor.stop()
        await #expect(throws: CallError.self) { try await counter.call { $0.increment() } }
    }

    @Test("an error thrown by a method goes to its caller and not to the supervisor")
    func methodError() async throws {
        let supervisor = Supervisor("app") { Child("counter") { _ in Counter() } }
        try await supervisor.start()
        let counter = try supervisor.child("counter", as: Counter.self)
        let pid = counter.pid
        await #expect(throws: TestFailure("from a method")) { try await counter.call { try $0.fail() } }
        #expect(counter.pid == pid)
        await supervisor.stop()
    }

    @Test("restarts a worker that throws, after its terminate(reason:)")
    func restartOfWorker() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") { Child("worker") { _ in Puppet("worker", journal) } }
        try await supervisor.start()
        await journal.wait(for: "worker runs")
        let worker = try supervisor.child("worker", as: Puppet.self)
        try await worker.call { $0.end(.failure(TestFailure("boom"))) }
        await journal.wait(for: "worker runs", count: 2)
        #expect(journal.entries == ["worker runs", "worker terminates: crashed: boom", "worker runs"])
        await supervisor.stop()
    }

    @Test("gives up when the intensity is exceeded, and run() throws the cause")
    func givesUp() async throws {
        let supervisor = Supervisor("app", intensity: .init(2, within: .seconds(3600))) {
            Child("counter") { _ in Counter() }
        }
        try await supervisor.start()
        let tree = LiveTree(supervisor)
        for _ in 1...2 {
            try tree.end("app/counter")
            try await tree.settled()
        }
        try tree.end("app/counter")
        do {
            try await supervisor.run()
            Issue.record("run() returned")
        } catch SupervisionError.intensityExceeded(let name, let child, .killed) {
            #expect(name == "app")
            #expect(child == "app/counter")
        }
    }

    @Test("a child that fails at boot takes down what was started before it, and start() throws the nested cause")
    func bootFailure() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") {
            Child("first") { context in
                context.pid.onExit { journal.write("first ended: \($0)") }
                return Counter()
            }
            Supervisor("inner") {
                Child("broken") { _ -> Counter? in throw TestFailure("no way") }
            }
        }
        do {
            try await supervisor.start()
            Issue.record("start() returned")
        } catch SupervisionError.failedToStart("app/inner", .shutdown(let cause?)) {
            guard case SupervisionError.failedToStart("app/inner/broken", .crashed(let error)) = cause else {
                Issue.record("unexpected cause: \(cause)")
                return
            }
            #expect(error as? TestFailure == TestFailure("no way"))
        }
        #expect(journal.entries == ["first ended: shutdown"])
        #expect(supervisor.pid == nil)
    }

    @Test("a worker that takes its stop request is asked, one that does not is cancelled")
    func stopKinds() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") {
            Child("polite") { Polite($0, journal) }
            Child("puppet") { _ in Puppet("puppet", journal) }
        }
        try await supervisor.start()
        await journal.wait(for: "polite runs")
        await journal.wait(for: "puppet runs")
        journal.clear()
        await supervisor.stop()
        #expect(journal.entries == ["puppet terminates: shutdown", "polite was asked: true"])
    }

    @Test("a child that ignores its cancellation is abandoned after its timeouts, and the next incarnation starts")
    func abandoned() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let release = Journal()
        let supervisor = Supervisor("app", clock: clock) {
            Child("stubborn", onKill: { (_: Stubborn) in journal.write("hook") }) { _ in Stubborn(journal, release) }
        }
        try await supervisor.start()
        await journal.wait(for: "runs")
        var events = supervisor.events.makeAsyncIterator()
        try LiveTree(supervisor).end("app/stubborn")
        await journal.wait(for: "hook")
        clock.advance(by: .seconds(1))
        guard case .abandoned = await events.next()?.kind else {
            Issue.record("not abandoned")
            return
        }
        await journal.wait(for: "runs", count: 2)
        #expect(supervisor.tree().children.first?.abandoned == 1)
        release.write("go")
        supervisor.pid?.kill()
        clock.advance(by: .seconds(1))
        await supervisor.stop()
    }

    @Test("a call to a child that is killed meanwhile is released at once, with the reason")
    func callReleased() async throws {
        let supervisor = Supervisor("app") { Child("slow") { _ in Slow() } }
        try await supervisor.start()
        let slow = try supervisor.child("slow", as: Slow.self)
        let journal = Journal()
        let result = Task { try await slow.call { try await $0.forever(journal) } }
        await journal.wait(for: "called")
        slow.pid?.kill()
        await #expect {
            try await result.value
        } throws: { error in
            guard case CallError.exited("app/slow", .killed) = error else { return false }
            return true
        }
        await supervisor.stop()
    }

    @Test("a call that takes longer than its deadline is released with a timeout")
    func callTimeout() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("app", clock: clock) { Child("slow") { _ in Slow() } }
        try await supervisor.start()
        let slow = try supervisor.child("slow", as: Slow.self)
        let journal = Journal()
        let result = Task { try await slow.call(timeout: .seconds(2)) { try await $0.forever(journal) } }
        await journal.wait(for: "called")
        clock.advance(by: .seconds(2))
        await #expect {
            try await result.value
        } throws: { error in
            guard case CallError.timeout("app/slow", .seconds(2)) = error else { return false }
            return true
        }
        await supervisor.stop()
    }

    @Test("a sibling is reached through its reference, also before it runs")
    func siblings() async throws {
        let supervisor = Supervisor("app") {
            Child("user") { context in User(context.reference("counter")) }
            Child("counter") { _ in Counter() }
        }
        try await supervisor.start()
        let user = try supervisor.child("user", as: User.self)
        #expect(try await user.call { try await $0.use() } == 1)
        await supervisor.stop()
    }

    @Test("a child of another type than asked for is a typed error")
    func wrongType() async throws {
        let supervisor = Supervisor("app") { Child("counter") { _ in Counter() } }
        try await supervisor.start()
        let wrong = try supervisor.child("counter", as: Slow.self)
        await #expect {
            try await wrong.call { _ in }
        } throws: { error in
            guard case CallError.wrongType("app/counter", "Slow", "Counter") = error else { return false }
            return true
        }
        #expect(throws: CallError.self) { try supervisor.child("nobody", as: Counter.self) }
        await supervisor.stop()
    }

    @Test("the tree prints as text")
    func text() async throws {
        let supervisor = Supervisor("app", strategy: .restForOne) {
            Child("counter") { _ in Counter() }
            Supervisor("inner", strategy: .oneForAll) { Child("x") { _ in Counter() } }
            Child("none") { _ -> Counter? in nil }
        }
        try await supervisor.start()
        let lines = supervisor.tree().description.split(separator: "\n").map(String.init)
        #expect(lines.count == 5)
        #expect(lines[0].hasPrefix("app         rest_for_one  <0."))
        #expect(lines[1].hasPrefix("├─ counter  Counter  <0."))
        #expect(lines[2].hasPrefix("├─ inner    one_for_all  <0."))
        #expect(lines[3].hasPrefix("│  └─ x     Counter  <0."))
        #expect(lines[4] == "└─ none     Counter  stopped")
        await supervisor.stop()
    }

    @Test("a wrong specification is refused before anything starts")
    func invalid() async throws {
        let twice = Supervisor("app") {
            Child("a") { _ in Counter() }
            Child("a") { _ in Counter() }
        }
        await #expect {
            try await twice.start()
        } throws: { error in
            guard case SupervisionError.invalidSpecification(let text) = error else { return false }
            return text == "supervisor 'app' has two children with the id 'a'"
        }
    }

    @Test("children are administered at run time; a taken id names the process that has it")
    func administration() async throws {
        let supervisor = Supervisor("app") { Child("a") { _ in Counter() } }
        try await supervisor.start()
        let reference = try supervisor.reference()
        let pid = try #require(try await reference.startChild(Child("b") { _ in Counter() }))
        await #expect {
            try await reference.startChild(Child("b") { _ in Counter() })
        } throws: { error in
            guard case AdministrationError.alreadyStarted("app/b", pid) = error else { return false }
            return true
        }
        #expect(reference.whichChildren().map(\.id) == ["b", "a"])
        try await reference.terminateChild("b")
        try await reference.deleteChild("b")
        #expect(reference.countChildren().specifications == 1)
        await supervisor.stop()
    }

    @Test("an administrative call behind a start that hangs is released when its task is cancelled")
    func cancelledAdministration() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") { Child("a") { _ in Counter() } }
        try await supervisor.start()
        let reference = try supervisor.reference()
        let call = Task {
            try await reference.startChild(
                Child("slow") { _ in
                    journal.write("starting")
                    await journal.wait(for: "go")
                    return Counter()
                }
            )
        }
        await journal.wait(for: "starting")
        call.cancel()
        await #expect {
            try await call.value
        } throws: { error in
            guard case AdministrationError.cancelled("app/slow") = error else { return false }
            return true
        }
        journal.write("go")
        try await LiveTree(supervisor).settled()
        #expect(reference.countChildren().active == 2)
        await supervisor.stop()
    }

    @Test("a tree that was stopped can be run again")
    func runAgain() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") { Child("polite") { Polite($0, journal) } }
        try await supervisor.start()
        await supervisor.stop()
        journal.clear()
        let run = Task { try await supervisor.run() }
        await journal.wait(for: "polite runs")
        await supervisor.stop()
        try await run.value
    }

    @Test("killing the root ends the tree, and run() throws")
    func killedRoot() async throws {
        let supervisor = Supervisor("app") { Child("counter") { _ in Counter() } }
        try await supervisor.start()
        let child = try #require(try supervisor.child("counter", as: Counter.self).pid)
        supervisor.pid?.kill()
        await #expect {
            try await supervisor.run()
        } throws: { error in
            guard case SupervisionError.exited(.killed) = error else { return false }
            return true
        }
        #expect(!child.isAlive)
    }

    @Test("cancelling the task of run() stops the tree in order")
    func cancelledRun() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") { Child("polite") { Polite($0, journal) } }
        let run = Task { try await supervisor.run() }
        await journal.wait(for: "polite runs")
        run.cancel()
        try await run.value
        #expect(journal.entries.last == "polite was asked: true")
    }
}

actor Stubborn: Worker {
    private let journal: Journal
    private let release: Journal

    init(_ journal: Journal, _ release: Journal) {
        self.journal = journal
        self.release = release
    }

    func run() async throws {
        journal.write("runs")
        await release.wait(for: "go")
    }
}

actor Slow {
    func forever(_ journal: Journal) async throws {
        journal.write("called")
        try await Task.sleep(for: .seconds(3600))
    }
}

actor User {
    private let counter: ChildReference<Counter>

    init(_ counter: ChildReference<Counter>) {
        self.counter = counter
    }

    func use() async throws -> Int {
        try await counter.call { $0.increment() }
    }
}
