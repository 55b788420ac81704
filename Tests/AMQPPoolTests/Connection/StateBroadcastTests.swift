import ConcurrencyPrimitives
import Synchronization
import Testing

@testable import AMQPPool

@Suite("A state and those who watch it", .timeLimit(.minutes(2)))
struct StateBroadcastTests {
    @Test("Watchers that are cancelled while it changes are not waited for, and it does not wait for them")
    func cancelledWatchers() async {
        let broadcast = StateBroadcast(0)
        for round in 0..<2_000 {
            await withTaskGroup(of: Void.self) { group in
                let watcher = Task { for await _ in broadcast.stream {} }
                group.addTask { for step in 1...5 { broadcast.update { round * 10 + step } } }
                group.addTask { watcher.cancel() }
                await group.waitForAll()
                await watcher.value
            }
        }
    }

    @Test("Each watcher has the changes in their order, and the last state at the end")
    func order() async {
        let broadcast = StateBroadcast(0)
        let stream = broadcast.stream
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 {
                group.addTask {
                    for _ in 0..<500 { broadcast.update { broadcast.next() } }
                }
            }
        }
        broadcast.finish(1_000_000)
        var last = -1
        for await state in stream {
            #expect(state > last)
            last = state
        }
        #expect(last == 1_000_000)
    }
}

private let changes = Mutex(0)

extension StateBroadcast<Int> {
    /// Called under the lock, so that numbers come in the order of the changes.
    fileprivate func next() -> Int {
        changes.withLock { changes in
            changes += 1
            return changes
        }
    }
}
