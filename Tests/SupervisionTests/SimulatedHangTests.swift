import Testing

@testable import Supervision

@Suite("A simulated hang")
struct SimulatedHangTests {
    private func running(hasRun: Bool) -> ShutdownLadder {
        var ladder = ShutdownLadder(
            hasRun: hasRun,
            hasHook: false,
            shutdown: .timeout(.seconds(5)),
            killTimeout: .seconds(1)
        )
        _ = ladder.handle(.started, observesStop: false, at: .zero)
        return ladder
    }

    @Test("withholds the stop, the cancellation and the end of a worker, which is abandoned")
    func worker() throws {
        var ladder = running(hasRun: true)
        var task: LaunchedTask?
        var hang = try #require(SimulatedHang(&ladder, &task))
        let stop = ShutdownLadder.Input.stop(.timeout(.seconds(5)))
        #expect(hang.handle(stop, on: &ladder, observesStop: true, at: .zero) == [.setTimer(.seconds(5), number: 1)])
        #expect(hang.handle(.taskEnded(nil), on: &ladder, observesStop: true, at: .zero) == [])
        #expect(
            hang.handle(.timerFired(1), on: &ladder, observesStop: true, at: .zero)
                == [.markEnding, .setTimer(.seconds(1), number: 2)]
        )
        #expect(ladder.waitsForTimer)
        #expect(
            hang.handle(.timerFired(2), on: &ladder, observesStop: true, at: .zero) == [.abandon, .announceExit]
        )
        let released = hang.release(nil)
        #expect(released.isCancelled)
        _ = ladder.handle(try #require(released.end), observesStop: true, at: .zero)
        #expect(!ladder.isAtWork)
    }

    @Test("of an actor without run() is an action of a timer that does not return", arguments: [false, true])
    func plainActor(isKilled: Bool) throws {
        var ladder = running(hasRun: false)
        var task: LaunchedTask?
        var hang = try #require(SimulatedHang(&ladder, &task))
        let input: ShutdownLadder.Input = isKilled ? .kill : .stop(.timeout(.seconds(5)))
        #expect(
            hang.handle(input, on: &ladder, observesStop: false, at: .zero)
                == [.markEnding, .setTimer(.seconds(1), number: 1)]
        )
        #expect(
            hang.handle(.timerFired(1), on: &ladder, observesStop: false, at: .zero) == [.abandon, .announceExit]
        )
        #expect(ladder.isAtWork)
        let end = try #require(hang.release(nil).end)
        _ = ladder.handle(end, observesStop: false, at: .zero)
        #expect(!ladder.isAtWork)
    }

    @Test("does not begin in an incarnation that is starting or has ended")
    func notRunning() {
        var task: LaunchedTask?
        var starting = ShutdownLadder(
            hasRun: true,
            hasHook: false,
            shutdown: .brutalKill,
            killTimeout: .seconds(1)
        )
        #expect(SimulatedHang(&starting, &task) == nil)
        var ended = running(hasRun: false)
        _ = ended.handle(.kill, observesStop: false, at: .zero)
        #expect(SimulatedHang(&ended, &task) == nil)
    }
}
