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
}
