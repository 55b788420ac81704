import Supervision
import SupervisionTesting
import Synchronization
import Testing

@Suite("A task supervisor")
struct TaskSupervisorTests {
    private func start(maxChildren: Int? = nil) async throws -> (Supervisor, TaskSupervisorReference) {
        let supervisor = Supervisor("app") {
            TaskSupervisor("tasks", maxChildren: maxChildren)
            Child("owner") { _ in Counter() }
        }
        try await supervisor.start()
        return (supervisor, try supervisor.taskSupervisor("tasks"))
    }

    @Test("gives the result of a task to whoever waits for it, also later and twice")
    func result() async throws {
        let (supervisor, tasks) = try await start()
        let task = try await tasks.async { _ in 42 }
        #expect(try await task.value == 42)
        #expect(try await task.value == 42)
        await supervisor.stop()
    }

    @Test("a crash is the waiter's error and harms nothing else")
    func crash() async throws {
        let (supervisor, tasks) = try await start()
        let task = try await tasks.async { _ -> Int in throw TestFailure("boom") }
        await #expect {
            try await task.value
        } throws: { error in
            guard case CallError.exited(_, .crashed(let cause)) = error else { return false }
            return cause as? TestFailure == TestFailure("boom")
        }
        try await LiveTree(supervisor).settled()
        #expect(supervisor.tree().children.first?.restarts == 0)
        await supervisor.stop()
    }

    @Test("a killed task releases its waiter")
    func killed() async throws {
        let (supervisor, tasks) = try await start()
        let task = try await tasks.async { _ in try await Task.sleep(for: .seconds(3600)) }
        task.pid.kill()
        guard case .failure(.killed) = try await task.result else {
            Issue.record("unexpected result")
            return
        }
        await supervisor.stop()
    }

    @Test("a linked task and its owner end together")
    func linked() async throws {
        let (supervisor, tasks) = try await start()
        let owner = try #require(try supervisor.child("owner", as: Counter.self).pid)
        let task = try await tasks.async(linkedTo: owner) { _ in try await Task.sleep(for: .seconds(3600)) }
        owner.kill()
        guard case .killed = await task.pid.exited() else {
            Issue.record("unexpected reason")
            return
        }
        await supervisor.stop()
    }

    @Test("refuses more tasks than it may have")
    func maxChildren() async throws {
        let (supervisor, tasks) = try await start(maxChildren: 1)
        let task = try await tasks.async { _ in try await Task.sleep(for: .seconds(3600)) }
        await #expect(throws: AdministrationError.self) { try await tasks.startTask { _ in } }
        task.pid.kill()
        await supervisor.stop()
    }

    @Test("a stream gives the outcomes in order, with no more tasks at a time than allowed")
    func stream() async throws {
        let (supervisor, tasks) = try await start()
        let running = Mutex((now: 0, most: 0))
        var outcomes: [Int] = []
        for try await outcome in tasks.stream(
            over: 1...50,
            maxConcurrency: 4,
            { number in
                running.withLock {
                    $0.now += 1
                    $0.most = max($0.most, $0.now)
                }
                await Task.yield()
                running.withLock { $0.now -= 1 }
                if number == 25 { throw TestFailure() }
                return number
            }
        ) {
            switch outcome {
            case .success(let number): outcomes.append(number)
            case .failure: outcomes.append(-1)
            }
        }
        #expect(outcomes == (1...50).map { $0 == 25 ? -1 : $0 })
        #expect(running.withLock { $0.most } <= 4)
        await supervisor.stop()
    }
}

@Suite("Links")
struct LinkTests {
    private func start() async throws -> (Supervisor, [Pid]) {
        let supervisor = Supervisor("app") {
            for index in 0..<3 { Child("\(index)", restart: .temporary) { _ in Counter() } }
        }
        try await supervisor.start()
        let pids = try (0..<3).map { try #require(try supervisor.child("\($0)", as: Counter.self).pid) }
        return (supervisor, pids)
    }

    @Test("an abnormal end takes the linked process along, with the same reason, and so on")
    func chain() async throws {
        let (supervisor, pids) = try await start()
        pids[0].link(to: pids[1])
        pids[1].link(to: pids[2])
        pids[0].exit(.crashed(TestFailure("first")))
        guard case .crashed(let error) = await pids[2].exited() else {
            Issue.record("unexpected reason")
            return
        }
        #expect(error as? TestFailure == TestFailure("first"))
        await supervisor.stop()
    }

    @Test("without the link nothing happens; a link is one however often it is made")
    func unlink() async throws {
        let (supervisor, pids) = try await start()
        pids[0].link(to: pids[1])
        pids[1].link(to: pids[0])
        pids[0].unlink(from: pids[1])
        pids[0].kill()
        _ = await pids[0].exited()
        #expect(pids[1].isAlive)
        await supervisor.stop()
    }

    @Test("a link to a dead process brings an exit with noProcess")
    func deadLink() async throws {
        let (supervisor, pids) = try await start()
        pids[0].kill()
        _ = await pids[0].exited()
        pids[1].link(to: pids[0])
        guard case .noProcess = await pids[1].exited() else {
            Issue.record("unexpected reason")
            return
        }
        await supervisor.stop()
    }

    @Test("a chain of 10,000 linked processes ends without recursion")
    func longChain() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("many") }
        try await supervisor.start()
        let many = try supervisor.dynamicSupervisor("many")
        var last: Pid?
        var first: Pid?
        for _ in 0..<10_000 {
            let pid = try #require(
                try await many.startChild(Child("x", restart: .temporary) { _ in Counter() })
            )
            last?.link(to: pid)
            if first == nil { first = pid }
            last = pid
        }
        first?.exit(.crashed(TestFailure()))
        _ = await last?.exited()
        try await LiveTree(supervisor).settled()
        #expect(try many.countChildren().specifications == 0)
        await supervisor.stop()
    }
}

@Suite("A partition supervisor")
struct PartitionSupervisorTests {
    @Test("the same key goes to the same partition")
    func partitions() async throws {
        let counters = PartitionSupervisor<Counter>("counters", partitions: 4) { id, _ in Child(id) { _ in Counter() } }
        try await counters.supervisor.start()
        for key in 0..<100 { _ = try await counters.partition(for: key).call { $0.increment() } }
        #expect(counters.partition(for: 7).pid == counters.partition(for: 7).pid)
        var sum = 0
        for index in 0..<4 {
            sum += try await counters.supervisor.child("\(index)", as: Counter.self).call { $0.value }
        }
        #expect(sum == 100)
        await counters.supervisor.stop()
    }
}
