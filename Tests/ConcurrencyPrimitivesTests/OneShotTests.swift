import ConcurrencyPrimitives
import Synchronization
import Testing

@Suite("What happens once", .timeLimit(.minutes(5)))
struct OneShotTests {
    private func yield(_ times: Int = 100) async {
        for _ in 0..<times { await Task.yield() }
    }

    @Test("the first value stands, for those who wait and those who ask later")
    func first() async throws {
        let shot = OneShot<Int>()
        let early = Task { try await shot.value() }
        let seen = Mutex<[Int]>([])
        shot.whenSet { value in seen.withLock { $0.append(value) } }
        await yield()
        #expect(shot.current == nil)
        #expect(shot.set(1))
        #expect(!shot.set(2))
        shot.whenSet { value in seen.withLock { $0.append(value) } }
        #expect(try await early.value == 1)
        #expect(try await shot.value() == 1)
        #expect(shot.current == 1)
        #expect(seen.withLock { $0 } == [1, 1])
    }

    @Test("a value that is there is had in a task that is cancelled; one that is not is not waited for")
    func cancelled() async throws {
        let shot = OneShot<Int>()
        let before = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await shot.value()
        }
        await #expect(throws: CancellationError.self) { try await before.value }
        let during = Task { try await shot.value() }
        await yield()
        during.cancel()
        await #expect(throws: CancellationError.self) { try await during.value }
        shot.set(1)
        let after = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await shot.value()
        }
        #expect(try await after.value == 1)
    }

    @Test("a wait ends at its deadline")
    func deadline() async throws {
        let shot = OneShot<Int>()
        await #expect(throws: WaitFailure.deadline) { try await shot.value(before: .now + .milliseconds(5)) }
    }

    @Test("a latch lets everybody through once it is open, and whoever is cancelled")
    func latch() async {
        let latch = Latch()
        let calls = Atomic(0)
        latch.whenOpen { calls.add(1, ordering: .relaxed) }
        let cancelled = Task { await latch.wait() }
        let cancelledBefore = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            await latch.wait()
        }
        await cancelledBefore.value
        await yield()
        cancelled.cancel()
        await cancelled.value
        #expect(!latch.isOpen)
        let waiting = (0..<3).map { _ in Task { await latch.wait() } }
        await yield()
        latch.open()
        latch.open()
        for task in waiting { await task.value }
        await latch.wait()
        latch.whenOpen { calls.add(1, ordering: .relaxed) }
        #expect(calls.load(ordering: .relaxed) == 2)
    }

    @Test("a latch that is opened while tasks come, wait and are cancelled resumes each once")
    func latchRaces() async {
        for _ in 0..<50 {
            let latch = Latch()
            await withTaskGroup { group in
                for index in 0..<20 {
                    group.addTask {
                        let task = Task { await latch.wait() }
                        if index % 2 == 0 { task.cancel() }
                        await task.value
                    }
                }
                group.addTask { latch.open() }
            }
        }
    }

    @Test("a settled value is waited for in a task that is cancelled, too")
    func settled() async {
        let shot = OneShot<Int>()
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await shot.settled()
        }
        await yield()
        shot.set(1)
        #expect(await task.value == 1)
        #expect(await shot.settled() == 1)
        #expect(await OneShot<Int>().wait(atMost: .milliseconds(1)) == nil)
    }

    @Test(
        "of values that are set at the same moment one stands, and each waiter and handler gets it once, or is cancelled, or too late"
    )
    func races() async {
        for _ in 0..<50 {
            let shot = OneShot<Int>()
            let set = Count()
            let handled = Count()
            let ended = Count()
            await withTaskGroup { group in
                for index in 0..<20 {
                    group.addTask {
                        shot.whenSet { _ in handled.increment() }
                        let task = Task {
                            try await shot.value(
                                before: index % 5 == 0 ? .now + .microseconds(100) : .now + .seconds(60)
                            )
                        }
                        if index % 3 == 0 { task.cancel() }
                        switch await task.result {
                        case .success(let value): #expect(value == shot.current)
                        case .failure(let error):
                            #expect(error as? WaitFailure == .cancelled || error as? WaitFailure == .deadline)
                        }
                        ended.increment()
                    }
                }
                for value in 0..<4 {
                    group.addTask { if shot.set(value) { set.increment() } }
                }
            }
            #expect(set.value == 1)
            #expect(handled.value == 20)
            #expect(ended.value == 20)
        }
    }
}
