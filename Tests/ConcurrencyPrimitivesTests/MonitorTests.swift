import ConcurrencyPrimitives
import Synchronization
import Testing

/// What tasks write down.
private final class Notes: Sendable {
    private let notes = Mutex<[Int]>([])

    var all: [Int] { notes.withLock { $0 } }

    func add(_ note: Int) { notes.withLock { $0.append(note) } }
}

@Suite("A monitor", .timeLimit(.minutes(5)))
struct MonitorTests {
    /// Takes one, if there is one.
    private static let takeOne: @Sendable (inout Int) -> Int? = { count in
        guard count > 0 else { return nil }
        count -= 1
        return count
    }

    private func until(_ condition: () -> Bool) async {
        while !condition() { await Task.yield() }
    }

    @Test("gives what is there without a wait, also to a task that is cancelled and after the deadline")
    func atOnce() async throws {
        let monitor = Monitor(2)
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await monitor.wait(before: .now - .seconds(1), for: Self.takeOne)
        }
        #expect(try await task.value == 1)
        #expect(monitor.read { $0 } == 1)
    }

    @Test("a task that is cancelled before it waits does not wait")
    func cancelledBefore() async throws {
        let monitor = Monitor(0)
        let task = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return try await monitor.wait(for: Self.takeOne)
        }
        await #expect(throws: WaitFailure.cancelled) { try await task.value }
        #expect(monitor.waiting == 0)
    }

    @Test("a task that is cancelled while it waits goes on at once, and takes nothing")
    func cancelledDuring() async throws {
        let monitor = Monitor(0)
        let task = Task { try await monitor.wait(for: Self.takeOne) }
        await until { monitor.waiting == 1 }
        task.cancel()
        await #expect(throws: WaitFailure.cancelled) { try await task.value }
        monitor.change { $0 = 1 }
        #expect(monitor.read { $0 } == 1)
        #expect(monitor.waiting == 0)
    }

    @Test("what was handed over stays handed over when the task is cancelled after that")
    func cancelledAfter() async throws {
        let monitor = Monitor(0)
        let task = Task { try await monitor.wait(for: Self.takeOne) }
        await until { monitor.waiting == 1 }
        monitor.change { $0 = 1 }
        task.cancel()
        #expect(try await task.value == 0)
        #expect(monitor.read { $0 } == 0)
    }

    @Test("a deadline ends a wait, also one that has passed before it began")
    func deadline() async throws {
        let monitor = Monitor(0)
        for deadline in [ContinuousClock.now - .seconds(1), .now, .now + .milliseconds(10)] {
            await #expect(throws: WaitFailure.deadline) { try await monitor.wait(before: deadline, for: Self.takeOne) }
        }
        #expect(monitor.waiting == 0)
    }

    @Test("no more wait than may")
    func full() async throws {
        let monitor = Monitor(0)
        let first = Task { try await monitor.wait(limit: 1, for: Self.takeOne) }
        await until { monitor.waiting == 1 }
        await #expect(throws: WaitFailure.full) { try await monitor.wait(limit: 1, for: Self.takeOne) }
        monitor.change { $0 = 1 }
        #expect(try await first.value == 0)
    }

    @Test("each waiter gets what it waits for, whatever the others wait for")
    func all() async throws {
        let monitor = Monitor(0)
        let waiters = [3, 1, 2].map { wanted in
            Task { try await monitor.wait { $0 >= wanted ? wanted : nil } }
        }
        await until { monitor.waiting == 3 }
        monitor.change { $0 = 2 }
        #expect(try await waiters[1].value == 1)
        #expect(try await waiters[2].value == 2)
        #expect(monitor.waiting == 1)
        monitor.change { $0 = 3 }
        #expect(try await waiters[0].value == 3)
    }

    @Test("in turn, the first gets it first, and nobody who comes later overtakes it")
    func inTurn() async throws {
        let monitor = Monitor(0, order: .inTurn)
        let order = Notes()
        // The first wants two at once, the others one each.
        let first = Task {
            _ = try await monitor.wait { count -> Int? in
                guard count >= 2 else { return nil }
                count -= 2
                return count
            }
            order.add(1)
        }
        await until { monitor.waiting == 1 }
        let second = Task {
            _ = try await monitor.wait(for: Self.takeOne)
            order.add(2)
        }
        await until { monitor.waiting == 2 }
        monitor.change { $0 += 1 }
        #expect(monitor.waiting == 2)
        monitor.change { $0 += 1 }
        try await first.value
        #expect(monitor.waiting == 1)
        monitor.change { $0 += 1 }
        try await second.value
        #expect(order.all == [1, 2])
    }

    @Test("in turn, when the first gives up the next gets what was too little for it")
    func firstGivesUp() async throws {
        let monitor = Monitor(0, order: .inTurn)
        let first = Task { try await monitor.wait { $0 >= 2 ? 2 : nil } }
        await until { monitor.waiting == 1 }
        let second = Task { try await monitor.wait(for: Self.takeOne) }
        await until { monitor.waiting == 2 }
        monitor.change { $0 = 1 }
        first.cancel()
        await #expect(throws: WaitFailure.cancelled) { try await first.value }
        #expect(try await second.value == 0)
    }

    @Test("whatever comes at the same moment, each is resumed once, and nothing is lost or given twice")
    func races() async throws {
        for order in [Monitor<Int>.Order.all, .inTurn] {
            let monitor = Monitor(0, order: order)
            let taken = Notes()
            let ended = Notes()
            await withTaskGroup { group in
                for index in 0..<400 {
                    group.addTask {
                        let task = Task {
                            _ = try await monitor.wait(
                                before: index % 5 == 0 ? .now + .microseconds(200) : nil,
                                for: Self.takeOne
                            )
                        }
                        if index % 3 == 0 {
                            for _ in 0..<(index % 7) { await Task.yield() }
                            task.cancel()
                        }
                        if case .success = await task.result { taken.add(index) }
                        ended.add(index)
                    }
                }
                for _ in 0..<400 {
                    group.addTask {
                        await Task.yield()
                        monitor.change { $0 += 1 }
                    }
                }
            }
            #expect(ended.all.count == 400)
            #expect(taken.all.count + monitor.read { $0 } == 400)
            #expect(monitor.waiting == 0)
        }
    }
}
