import ConcurrencyPrimitives
import Synchronization
import Testing

@Suite("The timers of the process", .timeLimit(.minutes(5)))
struct SystemTimersTests {
    @Test("fire in the order of their deadlines, whatever the order in which they were set")
    func order() async throws {
        let fired = Mutex<[Int]>([])
        let last = OneShot<Void>()
        for milliseconds in [30, 5, 20, 10] {
            _ = SystemTimers.shared.schedule(after: .milliseconds(milliseconds)) {
                fired.withLock { $0.append(milliseconds) }
                if milliseconds == 30 { last.set(()) }
            }
        }
        try await last.value()
        #expect(fired.withLock { $0 } == [5, 10, 20, 30])
    }

    @Test("one that is cancelled does not fire, and lets go of its action; thousands of them leave no trace")
    func cancelled() async throws {
        final class Witness: Sendable {}
        weak var released: Witness?
        do {
            let witness = Witness()
            released = witness
            let timer = SystemTimers.shared.schedule(after: .seconds(3600)) { _ = witness }
            timer.cancel()
            timer.cancel()
        }
        #expect(released == nil)
        for _ in 0..<5_000 { SystemTimers.shared.schedule(after: .seconds(3600)) {}.cancel() }
        let fired = OneShot<Void>()
        _ = SystemTimers.shared.schedule(after: .zero) { fired.set(()) }
        try await fired.value()
    }

    @Test(
        "delays of nothing, below zero and beyond all bounds",
        arguments: [
            Duration.zero, .seconds(-1), .seconds(Int64.max), .seconds(Int64.min), Duration(attoseconds: .max),
            Duration(attoseconds: .min),
        ]
    )
    func extremes(delay: Duration) async throws {
        let fired = OneShot<Void>()
        let timer = SystemTimers.shared.schedule(after: delay) { fired.set(()) }
        if delay <= .zero { try await fired.value() }
        timer.cancel()
        #expect((fired.current != nil) == (delay <= .zero))
    }
}
