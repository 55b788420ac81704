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
