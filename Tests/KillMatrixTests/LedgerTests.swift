import ChaosSupport
import SupervisionTesting
import Testing

/// What storms and the kill matrix judge by.
@Suite("The ledger of a load")
struct LedgerTests {
    private func judged(
        _ runs: [(queue: String, isMarked: Bool)],
        losesMessages: Bool = false,
        unmarked: Set<String> = []
    ) -> Chaos.Invariant.Violation? {
        var ledger = Ledger()
        let number = ledger.begin()
        for run in runs { ledger.ran(number, from: run.queue, isMarked: run.isMarked) }
        ledger.end(number, "call", .right, runs: true)
        do {
            try ledger.judge(losesMessages: losesMessages, unmarked: unmarked) { _ in false }
            return nil
        } catch {
            return error
        }
    }

    @Test("what ran twice must have been marked once, unless the broker has lost count in the queue that it came from")
    func marks() {
        #expect(judged([("a", false)]) == nil)
        #expect(judged([("a", false), ("a", true), ("a", true)]) == nil)
        #expect(judged([("a", true), ("a", false)]) == nil)
        #expect(judged([("a", false), ("a", false)]) != nil)
        #expect(judged([("a", false), ("a", true), ("a", false)]) != nil)
        #expect(judged([("a", false), ("a", false)], losesMessages: true) == nil)
        #expect(judged([("a", false), ("a", false)], unmarked: ["a"]) == nil)
        #expect(judged([("a", false), ("a", false)], unmarked: ["b"]) != nil)
    }

    @Test("a queue is waited for as long as its messages become fewer, and not for ever")
    func patience() {
        let start = ContinuousClock.now
        let second = { (number: Int) in start + .seconds(number) }
        var patience = DrainPatience(.seconds(60), from: start)
        patience.saw(9000, at: second(1))
        #expect(!patience.isOver(at: second(59)))
        #expect(patience.isOver(at: second(60)))
        patience.saw(8583, at: second(59))
        #expect(!patience.isOver(at: second(118)))
        // More and as many as before is no progress.
        patience.saw(8584, at: second(100))
        patience.saw(8583, at: second(101))
        #expect(patience.isOver(at: second(119)))
        for number in 2..<1000 { patience.saw(8583 - number, at: second(number)) }
        #expect(!patience.isOver(at: second(899)))
        #expect(patience.isOver(at: second(900)))
    }
}
