import ConcurrencyPrimitives
import Synchronization
import Testing

@Suite("Broadcasts", .timeLimit(.minutes(5)))
struct BroadcastTests {
    @Test("of events: each listener gets those from its own beginning on, and loses the oldest when it is slow")
    func events() async {
        let broadcast = EventBroadcast<Int>(limit: 3)
        broadcast.send(0)
        let drops = Atomic(0)
        let first = broadcast.stream { drops.add(1, ordering: .relaxed) }
        broadcast.send(1)
        let second = broadcast.stream()
        for event in 2...4 { broadcast.send(event) }
        broadcast.finish()
        broadcast.send(5)
        #expect(await first.reduce(into: []) { $0.append($1) } == [2, 3, 4])
        #expect(await second.reduce(into: []) { $0.append($1) } == [2, 3, 4])
        #expect(drops.load(ordering: .relaxed) == 1)
        #expect(await broadcast.stream().reduce(0) { $0 + $1 } == 0)
    }

    @Test("of events: a listener that goes away is forgotten")
    func listenerGone() async {
        let broadcast = EventBroadcast<Int>(limit: 3)
        let task = Task {
            for await _ in broadcast.stream() {}
        }
        while broadcast.isEmpty { await Task.yield() }
        task.cancel()
        await task.value
        while !broadcast.isEmpty { await Task.yield() }
    }

    @Test("of states: the state of the moment, then each change, the same state never twice, and the last in any case")
    func states() async {
        let broadcast = StateBroadcast(0)
        broadcast.update { 1 }
        let stream = broadcast.stream
        for state in [1, 2, 2, 3] { broadcast.update { state } }
        broadcast.finish(4)
        broadcast.update { 5 }
        #expect(await stream.reduce(into: []) { $0.append($1) } == [1, 2, 3, 4])
        #expect(await broadcast.stream.reduce(into: []) { $0.append($1) } == [4])
        let slow = StateBroadcast(0)
        let late = slow.stream
        for state in 1...100 { slow.update { state } }
        slow.finish(101)
        let seen = await late.reduce(into: []) { $0.append($1) }
        #expect(seen.count == StateBroadcast<Int>.limit)
        #expect(seen.last == 101)
    }

    @Test(
        "of states: changes from many threads arrive in order, the last in any case, while watchers come and are cancelled"
    )
    func concurrentStates() async {
        for _ in 0..<20 {
            let broadcast = StateBroadcast(0)
            let last = Count()
            await withTaskGroup { group in
                for index in 0..<8 {
                    group.addTask {
                        let watcher = Task {
                            var seen: [Int] = []
                            for await state in broadcast.stream { seen.append(state) }
                            return seen
                        }
                        if index % 2 == 0 {
                            await Task.yield()
                            watcher.cancel()
                        }
                        let seen = await watcher.value
                        #expect(seen == seen.sorted() && Set(seen).count == seen.count)
                        if index % 2 == 1 { #expect(seen.last == .max) }
                    }
                }
                group.addTask {
                    await withTaskGroup { changes in
                        for _ in 0..<100 {
                            changes.addTask {
                                // Read under the broadcast's lock, so what is sent last is the latest.
                                broadcast.update { last.increment() }
                            }
                        }
                    }
                    broadcast.finish(.max)
                }
            }
        }
    }

    @Test("of events: each goes to all who listen, while listeners come and go, and the end ends all")
    func concurrentEvents() async {
        let broadcast = EventBroadcast<Int>(limit: 10_000)
        let streams = (0..<4).map { _ in broadcast.stream() }
        await withTaskGroup { group in
            for stream in streams {
                group.addTask {
                    let seen = await stream.reduce(into: [Int]()) { $0.append($1) }
                    #expect(seen.sorted() == Array(0..<1_000))
                }
            }
            for _ in 0..<4 {
                group.addTask {
                    let passing = Task { for await _ in broadcast.stream() {} }
                    await Task.yield()
                    passing.cancel()
                    await passing.value
                }
            }
            group.addTask {
                await withTaskGroup { senders in
                    for event in 0..<1_000 { senders.addTask { broadcast.send(event) } }
                }
                broadcast.finish()
            }
        }
        #expect(broadcast.isEmpty)
    }
}
