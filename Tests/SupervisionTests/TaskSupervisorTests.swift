import Supervision
import SupervisionTesting
import Synchronization
import Testing

@Suite("A child that is a task")
struct TaskChildTests {
    @Test("runs again when it throws, is asked to stop when it takes its stop request, and ends when it returns")
    func life() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") {
            Child.task("polite", restart: .transient) { context in
                let stop = context.stopRequest
                journal.write("run \(context.incarnation)")
                if context.incarnation == 0 { throw TestFailure() }
                await stop.wait()
                journal.write("asked: \(!Task.isCancelled)")
            }
            Child.task("once", restart: .transient) { _ in journal.write("once") }
        }
        try await supervisor.start()
        await journal.wait(for: "run 1")
        await journal.wait(for: "once")
        await supervisor.stop()
        #expect(journal.entries.filter { $0 != "once" } == ["run 0", "run 1", "asked: true"])
        #expect(journal.entries.count { $0 == "once" } == 1)
    }
}

@Suite("A task supervisor")
struct TaskSupervisorTests {
    private func start(maximumChildren: Int? = nil) async throws -> (Supervisor, TaskSupervisorReference) {
        let supervisor = Supervisor("app") {
            TaskSupervisor("tasks", maximumChildren: maximumChildren)
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
    func maximumChildren() async throws {
        let (supervisor, tasks) = try await start(maximumChildren: 1)
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
        for try await (input, outcome) in tasks.stream(
            over: 1...50,
            maximumConcurrency: 4,
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
            case .success(let number):
                #expect(number == input)
                outcomes.append(number)
            case .failure, .timedOut:
                #expect(input == 25)
                outcomes.append(-1)
            }
        }
        #expect(outcomes == (1...50).map { $0 == 25 ? -1 : $0 })
        #expect(running.withLock { $0.most } <= 4)
        await supervisor.stop()
    }

    @Test("a stream in order of completion gives first what comes first, each with its element")
    func unordered() async throws {
        let journal = Journal()
        let (supervisor, tasks) = try await start()
        var inputs: [Int] = []
        for try await (input, result) in tasks.stream(
            over: 1...6,
            maximumConcurrency: 3,
            order: .ofCompletion,
            { number in
                // The first waits for all others.
                if number == 1 { await journal.wait(for: "done", count: 5) } else { journal.write("done") }
                return number * 10
            }
        ) {
            inputs.append(input)
            guard case .success(input * 10) = result else {
                Issue.record("unexpected result")
                continue
            }
        }
        #expect(inputs.last == 1)
        #expect(inputs.sorted() == [1, 2, 3, 4, 5, 6])
        await supervisor.stop()
    }

    @Test(
        "an element that takes too long is killed, and the stream goes on or throws",
        arguments: [TaskOrder.ofElements, .ofCompletion]
    )
    func streamTimeout(order: TaskOrder) async throws {
        let clock = ManualClock()
        let journal = Journal()
        let supervisor = Supervisor("app", clock: clock) { TaskSupervisor("tasks") }
        try await supervisor.start()
        let tasks = try supervisor.taskSupervisor("tasks")
        let work: @Sendable (Int) async throws -> Int = { number in
            if number == 2 {
                journal.write("slow")
                try await Task.sleep(for: .seconds(3600))
            }
            return number
        }
        for onTimeout in [OnTaskTimeout.kill, .fail] {
            journal.clear()
            let reading = Task {
                var results: [Int: Int] = [:]
                for try await (input, result) in tasks.stream(
                    over: 1...4,
                    maximumConcurrency: 2,
                    order: order,
                    timeout: .seconds(5),
                    onTimeout: onTimeout,
                    work
                ) {
                    switch result {
                    case .success(let number): results[input] = number
                    case .timedOut(.seconds(5)): results[input] = -1
                    case .timedOut, .failure: results[input] = -2
                    }
                    journal.write("given")
                }
                return results
            }
            await journal.wait(for: "slow")
            // All that can be given has been, and what is left has its timer: the slow one, and the one behind it.
            let (given, timers) = order == .ofElements ? (1, 2) : (3, 1)
            await journal.wait(for: "given", count: given)
            await settle { clock.pendingTimers == timers && (try? tasks.tasks().count) == 1 }
            clock.advance(by: .seconds(5))
            switch onTimeout {
            case .kill: #expect(try await reading.value == [1: 1, 2: -1, 3: 3, 4: 4])
            case .fail:
                await #expect {
                    try await reading.value
                } throws: {
                    if case CallError.timeout(_, .seconds(5)) = $0 { true } else { false }
                }
            }
            try await LiveTree(supervisor).settled()
            #expect(try tasks.tasks().isEmpty)
        }
        await supervisor.stop()
    }

    @Test("a stream over nothing ends at once", arguments: [TaskOrder.ofElements, .ofCompletion])
    func emptyStream(order: TaskOrder) async throws {
        let (supervisor, tasks) = try await start()
        for try await outcome in tasks.stream(over: [Int](), order: order, { $0 }) { Issue.record("\(outcome)") }
        await supervisor.stop()
    }

    @Test(
        "a stream without an end is read as far as one wants; what runs then is killed",
        arguments: [TaskOrder.ofElements, .ofCompletion]
    )
    func endlessStream(order: TaskOrder) async throws {
        let (supervisor, tasks) = try await start()
        let begun = Mutex(0)
        var read = 0
        for try await _ in tasks.stream(
            over: 1...,
            maximumConcurrency: 3,
            order: order,
            { number in
                begun.withLock { $0 += 1 }
                if number > 10 { try await Task.sleep(for: .seconds(3600)) }
            }
        ) {
            read += 1
            if read == 8 { break }
        }
        await settle { (try? tasks.tasks().isEmpty) == true }
        #expect(begun.withLock { $0 } <= 8 + 3)
        await supervisor.stop()
    }

    @Test(
        "a reader that is cancelled stops waiting, and its tasks are killed",
        arguments: [TaskOrder.ofElements, .ofCompletion]
    )
    func cancelledStream(order: TaskOrder) async throws {
        let journal = Journal()
        let (supervisor, tasks) = try await start()
        let reading = Task {
            for try await _ in tasks.stream(
                over: 1...,
                order: order,
                { _ in
                    journal.write("runs")
                    try await Task.sleep(for: .seconds(3600))
                }
            ) {}
        }
        await journal.wait(for: "runs", count: 2)
        reading.cancel()
        await #expect(throws: CancellationError.self) { try await reading.value }
        await settle { (try? tasks.tasks().isEmpty) == true }
        await supervisor.stop()
    }

    @Test("a stream's times that are no times: zero and less kill what is not done at once, the longest none")
    func streamTimes() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("app", clock: clock) { TaskSupervisor("tasks") }
        try await supervisor.start()
        let tasks = try supervisor.taskSupervisor("tasks")
        for timeout in [Duration.zero, .seconds(-1), Duration(secondsComponent: .max, attosecondsComponent: 0)] {
            let isLong = timeout > .zero
            let isOver = Atomic(false)
            let reading = Task {
                defer { isOver.store(true, ordering: .relaxed) }
                var timedOut = 0
                for try await (_, result) in tasks.stream(
                    over: 1...3,
                    timeout: timeout,
                    onTimeout: .kill,
                    { _ in if !isLong { try await Task.sleep(for: .seconds(3600)) } }
                ) {
                    if case .timedOut = result { timedOut += 1 }
                }
                return timedOut
            }
            await settle {
                clock.advance(by: .zero)
                return isOver.load(ordering: .relaxed)
            }
            #expect(try await reading.value == (isLong ? 0 : 3))
        }
        await supervisor.stop()
    }

    @Test("a task can be asked for within a time, again and again, alone and with others")
    func within() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let supervisor = Supervisor("app", clock: clock) { TaskSupervisor("tasks") }
        try await supervisor.start()
        let tasks = try supervisor.taskSupervisor("tasks")
        let slow = try await tasks.async { _ in
            await journal.wait(for: "go")
            return 1
        }
        let quick = try await tasks.async { _ in 2 }
        let timers = clock.pendingTimers
        let asking = Task { try await slow.result(within: .seconds(1)) }
        await settle { clock.pendingTimers > timers }
        clock.advance(by: .seconds(1))
        #expect(try await asking.value == nil)
        _ = try await quick.value
        let all = Task { try await [slow, quick].results(within: .seconds(1)) }
        await settle { clock.pendingTimers > timers }
        clock.advance(by: .seconds(1))
        let results = try await all.value
        #expect(results[0] == nil)
        guard case .success(2)? = results[1] else {
            Issue.record("unexpected result")
            return
        }
        journal.write("go")
        guard case .success(1)? = try await slow.result(within: .seconds(1000)) else {
            Issue.record("unexpected result")
            return
        }
        await supervisor.stop()
    }

    @Test("shutting a task down gives its result when it has one, and the reason of its end when not")
    func shutdownTask() async throws {
        let journal = Journal()
        let (supervisor, tasks) = try await start()
        let done = try await tasks.async { _ in 1 }
        _ = try await done.value
        guard case .success(1) = await done.shutdown(.brutalKill) else {
            Issue.record("unexpected result")
            return
        }
        let finishing = try await tasks.async { context in
            let stop = context.stopRequest
            journal.write("runs")
            await stop.wait()
            return 2
        }
        await journal.wait(for: "runs")
        guard case .success(2) = await finishing.shutdown() else {
            Issue.record("unexpected result")
            return
        }
        let running = try await tasks.async { _ in try await Task.sleep(for: .seconds(3600)) }
        guard case .failure(.shutdown) = await running.shutdown() else {
            Issue.record("unexpected result")
            return
        }
        let killed = try await tasks.async { _ in try await Task.sleep(for: .seconds(3600)) }
        #expect(try tasks.tasks() == [killed.pid])
        guard case .failure(.killed) = await killed.shutdown(.brutalKill) else {
            Issue.record("unexpected result")
            return
        }
        await supervisor.stop()
    }
}
