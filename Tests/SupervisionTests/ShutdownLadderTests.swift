import Testing

@testable import Supervision

extension ShutdownLadder {
    fileprivate mutating func handle(_ input: Input, observesStop: Bool) -> [Action] {
        handle(input, observesStop: observesStop, at: .zero)
    }

    /// The timer that is set fires.
    fileprivate mutating func fire(observesStop: Bool, at now: Duration = .zero) -> [Action] {
        handle(.timerFired(lastTimer), observesStop: observesStop, at: now)
    }
}

@Suite("The shutdown ladder")
struct ShutdownLadderTests {
    private func running(
        hasRun: Bool = true,
        hasHook: Bool = false,
        shutdown: Shutdown = .timeout(.seconds(5))
    ) -> ShutdownLadder {
        var ladder = ShutdownLadder(hasRun: hasRun, hasHook: hasHook, shutdown: shutdown, killTimeout: .seconds(1))
        #expect(ladder.handle(.started, observesStop: false) == [.announceStarted])
        return ladder
    }

    private func isKilled(_ ladder: ShutdownLadder) -> Bool {
        if case .killed = ladder.reason { return true }
        return false
    }

    private func isShutdown(_ ladder: ShutdownLadder) -> Bool {
        if case .shutdown = ladder.reason { return true }
        return false
    }

    @Test("timeout: asked, after T cancelled, after the kill timeout abandoned")
    func allRungs() {
        var ladder = running()
        #expect(
            ladder.handle(.stop(.timeout(.seconds(5))), observesStop: true) == [
                .requestStop, .setTimer(.seconds(5), number: 1),
            ]
        )
        #expect(
            ladder.fire(observesStop: true) == [.markEnding, .cancelTask, .setTimer(.seconds(1), number: 2)]
        )
        #expect(ladder.fire(observesStop: true) == [.abandon, .announceExit])
        #expect(isKilled(ladder))
        #expect(ladder.handle(.taskEnded(nil), observesStop: true) == [])
    }

    @Test("an actor that is stopped while an action of its timers runs ends when that has ended")
    func actionEnds() {
        var ladder = running(hasRun: false)
        #expect(ladder.beginAction() == true)
        #expect(
            ladder.handle(.stop(.timeout(.seconds(5))), observesStop: false)
                == [.markEnding, .setTimer(.seconds(1), number: 1)]
        )
        #expect(ladder.beginAction() == false)
        // It is ending already.
        #expect(ladder.handle(.kill, observesStop: false) == [])
        #expect(ladder.handle(.actionEnded(TestFailure("late")), observesStop: false) == [.cancelTimer, .announceExit])
        #expect(isShutdown(ladder))
    }

    @Test("an action that does not end is abandoned after the kill timeout, the hook runs for it, and the reason stays")
    func actionIsAbandoned() {
        var ladder = running(hasHook: true)
        #expect(ladder.beginAction() == true)
        #expect(ladder.handle(.taskEnded(nil), observesStop: false).contains(.runTerminate))
        #expect(ladder.handle(.terminated, observesStop: false) == [.markEnding, .setTimer(.seconds(1), number: 2)])
        #expect(ladder.fire(observesStop: false) == [.runHook, .abandon, .announceExit])
        #expect(ladder.isAtWork)
        #expect(ladder.handle(.actionEnded(nil), observesStop: false) == [])
        #expect(!ladder.isAtWork)
        guard case .normal = ladder.reason else {
            Issue.record("unexpected reason \(ladder.reason)")
            return
        }
    }

    @Test("an error of an action crashes the incarnation, which waits for the other actions")
    func actionCrashes() {
        var ladder = running(hasRun: false)
        #expect(ladder.beginAction() == true)
        #expect(ladder.beginAction() == true)
        #expect(
            ladder.handle(.actionEnded(TestFailure("first")), observesStop: false)
                == [.markEnding, .setTimer(.seconds(1), number: 1)]
        )
        #expect(ladder.handle(.actionEnded(nil), observesStop: false) == [.cancelTimer, .announceExit])
        guard case .crashed = ladder.reason else {
            Issue.record("unexpected reason \(ladder.reason)")
            return
        }
    }

    @Test("a start that fails waits for the actions of its timers", arguments: [true, false])
    func actionWhileStarting(fails: Bool) {
        var ladder = ShutdownLadder(hasRun: true, hasHook: false, shutdown: .infinity, killTimeout: .seconds(1))
        #expect(ladder.beginAction() == true)
        let input: ShutdownLadder.Input = fails ? .startFailed(TestFailure("start")) : .ignored
        #expect(ladder.handle(input, observesStop: false) == [.markEnding, .setTimer(.seconds(1), number: 1)])
        let last: ShutdownLadder.Action = fails ? .announceStartFailed : .announceIgnored
        #expect(ladder.handle(.actionEnded(nil), observesStop: false) == [.cancelTimer, last])
    }

    @Test("a worker that overruns its time is killed: its hook runs, and its exit waits for that")
    func overrun() {
        var ladder = running(hasHook: true)
        _ = ladder.handle(.stop(.timeout(.seconds(5))), observesStop: true)
        #expect(
            ladder.fire(observesStop: true)
                == [.markEnding, .cancelTask, .setTimer(.seconds(1), number: 2), .runHook]
        )
        #expect(ladder.handle(.taskEnded(CancellationError()), observesStop: true) == [])
        #expect(ladder.handle(.hookReturned, observesStop: true) == [.cancelTimer, .announceExit])
        #expect(isKilled(ladder))
    }

    @Test("a worker that does not take its stop request is cancelled at once, and has the same time in all")
    func notObserving() {
        var ladder = running()
        #expect(
            ladder.handle(.stop(.timeout(.seconds(5))), observesStop: false)
                == [.requestStop, .markEnding, .cancelTask, .setTimer(.seconds(6), number: 1)]
        )
        #expect(ladder.handle(.taskEnded(CancellationError()), observesStop: false).contains(.runTerminate))
        #expect(ladder.handle(.terminated, observesStop: false) == [.cancelTimer, .announceExit])
        #expect(isShutdown(ladder))
    }

    @Test("infinity: asked, without a timer")
    func infinity() {
        var ladder = running(shutdown: .infinity)
        #expect(ladder.handle(.stop(.infinity), observesStop: true) == [.requestStop])
        #expect(ladder.handle(.taskEnded(nil), observesStop: true) == [.markEnding, .runTerminate])
        #expect(ladder.handle(.terminated, observesStop: true) == [.announceExit])
        #expect(isShutdown(ladder))
    }

    @Test("brutal kill: cancelled and hooked at once; the exit waits for both")
    func brutalKill() {
        var ladder = running(hasHook: true, shutdown: .brutalKill)
        #expect(
            ladder.handle(.stop(.brutalKill), observesStop: true)
                == [.markEnding, .cancelTask, .setTimer(.seconds(1), number: 1), .runHook]
        )
        #expect(ladder.handle(.taskEnded(CancellationError()), observesStop: true) == [])
        #expect(ladder.handle(.hookReturned, observesStop: true) == [.cancelTimer, .announceExit])
        #expect(isKilled(ladder))
    }

    @Test("a killed worker's terminate(reason:) is not called")
    func noTerminateOnKill() {
        var ladder = running()
        _ = ladder.handle(.kill, observesStop: false)
        #expect(ladder.handle(.taskEnded(CancellationError()), observesStop: false) == [.cancelTimer, .announceExit])
    }

    @Test("an actor without run() ends at once, or after its hook when it is killed")
    func withoutRun() {
        var plain = running(hasRun: false)
        #expect(plain.handle(.kill, observesStop: false) == [.announceExit])
        var hooked = running(hasRun: false, hasHook: true)
        #expect(
            hooked.handle(.kill, observesStop: false) == [.markEnding, .setTimer(.seconds(1), number: 1), .runHook]
        )
        #expect(hooked.handle(.hookReturned, observesStop: false) == [.cancelTimer, .announceExit])
    }

    @Test("a hook that hangs holds the exit up for the kill timeout at most")
    func hangingHook() {
        var ladder = running(hasRun: false, hasHook: true)
        _ = ladder.handle(.kill, observesStop: false)
        #expect(ladder.fire(observesStop: false) == [.announceExit])
        #expect(isKilled(ladder))
        #expect(ladder.handle(.hookReturned, observesStop: false) == [])
    }

    @Test("a cancellation error that nobody asked for is a crash")
    func leakedCancellation() {
        var ladder = running()
        _ = ladder.handle(.taskEnded(CancellationError()), observesStop: false)
        guard case .crashed(let error) = ladder.reason else {
            Issue.record("unexpected reason \(ladder.reason)")
            return
        }
        #expect(error is CancellationError)
    }

    @Test("a worker that fails while it is being stopped has crashed")
    func crashWhileStopping() {
        var ladder = running()
        _ = ladder.handle(.stop(.timeout(.seconds(5))), observesStop: true)
        _ = ladder.handle(.taskEnded(TestFailure("late")), observesStop: true)
        guard case .crashed = ladder.reason else {
            Issue.record("unexpected reason \(ladder.reason)")
            return
        }
    }

    @Test("a kill overtakes a stop that is under way, and a terminate that hangs")
    func killOvertakes() {
        var asked = running()
        _ = asked.handle(.stop(.infinity), observesStop: true)
        #expect(
            asked.handle(.kill, observesStop: true) == [.markEnding, .cancelTask, .setTimer(.seconds(1), number: 1)]
        )
        var terminating = running()
        _ = terminating.handle(.taskEnded(nil), observesStop: false)
        #expect(terminating.handle(.kill, observesStop: false) == [.markEnding, .setTimer(.seconds(1), number: 2)])
        // Another kill gives it no more time.
        #expect(terminating.handle(.kill, observesStop: false) == [])
        var hanging = terminating
        #expect(terminating.handle(.terminated, observesStop: false) == [.cancelTimer, .announceExit])
        #expect(hanging.fire(observesStop: false) == [.abandon, .announceExit])
        #expect(hanging.isAtWork)
        _ = hanging.handle(.terminated, observesStop: false)
        #expect(!hanging.isAtWork)
    }

    @Test(
        "who kills, crashes or stops a child again and again does not put off its end",
        arguments: [Shutdown.timeout(.seconds(5)), .infinity, .brutalKill]
    )
    func firstDeadlineStands(first: Shutdown) {
        var ladder = running()
        _ = ladder.handle(.stop(first), observesStop: false, at: .zero)
        _ = ladder.handle(.kill, observesStop: false, at: .seconds(2))
        // From here on it has a second, whoever comes.
        let abandoned: Duration = first == .brutalKill ? .seconds(1) : .seconds(3)
        let again: [ShutdownLadder.Input] = [
            .kill, .crash(TestFailure()), .exit(.shutdown()), .stop(.timeout(.seconds(5))), .stop(.brutalKill), .finish,
        ]
        for (index, input) in again.enumerated() {
            let now = Duration.seconds(2) + .milliseconds(100 * index)
            #expect(ladder.handle(input, observesStop: false, at: now) == [])
        }
        #expect(ladder.fire(observesStop: false, at: abandoned) == [.abandon, .announceExit])
    }

    @Test("a kill brings the end of a stop forward, and does not put it off")
    func earlierDeadline() {
        var early = running()
        // Cancelled, and abandoned after 6 seconds.
        _ = early.handle(.stop(.timeout(.seconds(5))), observesStop: false, at: .zero)
        #expect(early.handle(.kill, observesStop: false, at: .seconds(2)) == [.setTimer(.seconds(1), number: 2)])
        var late = running()
        _ = late.handle(.stop(.timeout(.seconds(5))), observesStop: false, at: .zero)
        #expect(late.handle(.kill, observesStop: false, at: .milliseconds(5500)) == [])
        var terminating = running()
        _ = terminating.handle(.taskEnded(nil), observesStop: false, at: .zero)
        #expect(terminating.handle(.kill, observesStop: false, at: .milliseconds(4500)) == [.markEnding])
    }

    @Test("a timer that was set aside and fires late is not taken for its successor")
    func lateTimer() {
        var ladder = running()
        _ = ladder.handle(.stop(.timeout(.seconds(5))), observesStop: true)
        _ = ladder.handle(.kill, observesStop: true)
        #expect(ladder.handle(.timerFired(1), observesStop: true) == [])
        #expect(ladder.handle(.timerFired(2), observesStop: true) == [.abandon, .announceExit])
    }

    @Test("a terminate that is overtaken by a kill, or left behind, has its kill hook run")
    func hookOfTerminate() {
        var killed = running(hasHook: true)
        _ = killed.handle(.taskEnded(nil), observesStop: false)
        #expect(
            killed.handle(.kill, observesStop: false) == [.markEnding, .runHook, .setTimer(.seconds(1), number: 2)]
        )
        // It is the terminate that is waited for.
        #expect(killed.handle(.hookReturned, observesStop: false) == [])
        var late = killed
        #expect(killed.handle(.terminated, observesStop: false) == [.cancelTimer, .announceExit])
        // Once is enough.
        #expect(late.fire(observesStop: false) == [.abandon, .announceExit])
        var hanging = running(hasHook: true)
        _ = hanging.handle(.taskEnded(nil), observesStop: false)
        #expect(hanging.fire(observesStop: false) == [.runHook, .abandon, .announceExit])
    }

    @Test("a terminate that hangs is left behind after the shutdown time")
    func hangingTerminate() {
        var ladder = running()
        #expect(
            ladder.handle(.taskEnded(nil), observesStop: false) == [
                .setTimer(.seconds(5), number: 1), .markEnding, .runTerminate,
            ]
        )
        #expect(ladder.fire(observesStop: false) == [.abandon, .announceExit])
    }

    @Test("a start that is stopped fails; what it makes later is hooked and dropped")
    func stoppedStart() {
        var ladder = ShutdownLadder(
            hasRun: false,
            hasHook: true,
            shutdown: .timeout(.seconds(5)),
            killTimeout: .seconds(1)
        )
        #expect(
            ladder.handle(.stop(.timeout(.seconds(5))), observesStop: false)
                == [.markEnding, .cancelTask, .setTimer(.seconds(6), number: 1)]
        )
        #expect(ladder.fire(observesStop: false) == [.abandon, .announceStartFailed])
        #expect(ladder.handle(.started, observesStop: false) == [.runHook])
    }

    @Test("an exit request: asked if it observes, cancelled if not, with the requester's reason")
    func exitRequest() {
        var polite = running()
        #expect(polite.handle(.exit(.shutdown(cause: TestFailure("why"))), observesStop: true) == [.requestStop])
        _ = polite.handle(.taskEnded(nil), observesStop: true)
        guard case .shutdown(let cause?) = polite.reason else {
            Issue.record("unexpected reason \(polite.reason)")
            return
        }
        #expect(cause as? TestFailure == TestFailure("why"))
        var plain = running()
        #expect(
            plain.handle(.exit(.shutdown()), observesStop: false) == [
                .markEnding, .cancelTask, .setTimer(.seconds(1), number: 1),
            ]
        )
    }

    @Test("whatever comes in whatever order, an incarnation ends once and starts at most once", arguments: 0..<500)
    func random(seed: Int) {
        var random = SplitMix64(seed: UInt64(seed))
        func coin() -> Bool { random.next() % 2 == 0 }
        var ladder = ShutdownLadder(
            hasRun: coin(),
            hasHook: coin(),
            shutdown: coin() ? .timeout(.seconds(5)) : .infinity,
            killTimeout: .seconds(1)
        )
        var seen: [ShutdownLadder.Action] = []
        let inputs: [ShutdownLadder.Input] = [
            .started, .startFailed(TestFailure()), .ignored, .startTimedOut(TestFailure()), .taskEnded(nil),
            .taskEnded(TestFailure()), .terminated, .hookReturned, .timerFired(1), .exit(.shutdown()),
            .crash(TestFailure()),
            .stop(.timeout(.seconds(5))), .stop(.brutalKill), .stop(.infinity), .kill,
        ]
        for _ in 0..<30 {
            seen += ladder.handle(inputs[Int(random.next() % UInt64(inputs.count))], observesStop: coin())
        }
        // At the latest a kill and the kill timeout end it.
        seen += ladder.handle(.kill, observesStop: false)
        seen += ladder.fire(observesStop: false)
        let ends = seen.count { [.announceExit, .announceStartFailed, .announceIgnored].contains($0) }
        #expect(ends == 1)
        #expect(seen.count { $0 == .announceStarted } <= 1)
        #expect(seen.count { $0 == .runHook } <= 1)
        #expect(seen.count { $0 == .runTerminate } <= 1)
    }
}

@Suite("A shutdown ladder on its direct path")
struct DirectShutdownLadderTests {
    /// Random inputs to two ladders, of which one tries the direct path first.
    @Test("decides the same as on the general path", arguments: 0..<400)
    func paths(seed: Int) {
        var random = SplitMix64(seed: UInt64(seed))
        func pick<T>(_ values: [T]) -> T { values[Int(random.next() % UInt64(values.count))] }
        let shutdown = pick([Shutdown.timeout(.seconds(2)), .infinity, .brutalKill])
        var direct = ShutdownLadder(
            hasRun: random.next() % 3 == 0,
            hasHook: random.next() % 3 == 0,
            shutdown: shutdown,
            killTimeout: .seconds(1)
        )
        var general = direct
        var directActions: [ShutdownLadder.Action] = []
        var generalActions: [ShutdownLadder.Action] = []
        var runningActions = 0
        for step in 0..<20 {
            if random.next() % 8 == 0 {
                let begins = direct.beginAction()
                #expect(general.beginAction() == begins)
                if begins { runningActions += 1 }
                continue
            }
            if runningActions > 0, random.next() % 4 == 0 {
                runningActions -= 1
                directActions += direct.handle(.actionEnded(nil), observesStop: false, at: .zero)
                generalActions += general.handle(.actionEnded(nil), observesStop: false, at: .zero)
                continue
            }
            let input: ShutdownLadder.Input =
                switch random.next() % 16 {
                case 0...5: step == 0 ? .started : .kill
                case 6: .started
                case 7: .startFailed(TestFailure())
                case 8: .ignored
                case 9: .taskEnded(pick([nil, TestFailure()]))
                case 10: .exit(pick([.normal, .killed, .shutdown()]))
                case 11: .crash(TestFailure())
                case 12: .finish
                case 13: .stop(shutdown)
                case 14: .timerFired(direct.lastTimer)
                default: pick([.terminated, .hookReturned])
                }
            let observesStop = random.next() % 2 == 0
            let now = Duration.milliseconds(100 * step)
            directActions +=
                direct.handleDirectly(input) ?? direct.handle(input, observesStop: observesStop, at: now)
            generalActions += general.handle(input, observesStop: observesStop, at: now)
            #expect("\(direct.step) \(direct.reason)" == "\(general.step) \(general.reason)")
            #expect(direct.isLive == general.isLive)
            #expect(direct.isAtWork == general.isAtWork)
        }
        #expect(directActions == generalActions)
    }
}
