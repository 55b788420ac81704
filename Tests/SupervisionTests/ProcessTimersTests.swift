import Supervision
import SupervisionTesting
import Synchronization
import Testing

private struct Broken: Error {}

/// An actor that keeps its context.
private actor Holder: StateReporting {
    let context: ChildContext
    private var ticks = 0

    init(_ context: ChildContext) { self.context = context }

    func tick(_ journal: Journal) {
        ticks += 1
        journal.write("tick")
    }

    func stateReport() -> StateReport { StateReport("ticking", ["ticks": "\(ticks)"]) }
}

private func holder(
    _ clock: ManualClock = ManualClock(),
    intensity: RestartIntensity = .init(100, within: .seconds(1)),
    gate: Gate = Gate()
) async throws -> (Supervisor, ChildReference<Holder>) {
    let supervisor = Supervisor("app", intensity: intensity, clock: clock) {
        Child("a") { Holder($0) }
        Child("silent") { _ in Counter() }
        Child("busy") { _ in Gated(gate) }
    }
    try await supervisor.start()
    return (supervisor, try supervisor.child("a", as: Holder.self))
}

@Suite("Timers that belong to a process")
struct ProcessTimersTests {
    @Test("one fires once, after its time, by the tree's clock; a cancelled one does not")
    func once() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, child) = try await holder(clock)
        let context = try await child.call { $0.context }
        let holder = try await child.call { $0 }
        context.schedule(after: .seconds(2)) { await holder.tick(journal) }
        let cancelled = context.schedule(after: .seconds(1)) { journal.write("cancelled") }
        cancelled.cancel()
        clock.advance(by: .seconds(1))
        #expect(journal.entries.isEmpty)
        clock.advance(by: .seconds(1))
        await journal.wait(for: "tick")
        clock.advance(by: .seconds(100))
        await supervisor.stop()
        #expect(journal.entries == ["tick"])
        #expect(clock.pendingTimers == 0)
    }

    @Test("one that repeats leaves a turn out while the one before is under way")
    func repeating() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, child) = try await holder(clock)
        let context = try await child.call { $0.context }
        let timer = context.schedule(every: .seconds(1)) {
            journal.write("begin")
            await journal.wait(for: "go")
            journal.write("end")
        }
        clock.advance(by: .seconds(5))
        await journal.wait(for: "begin")
        #expect(journal.entries.count { $0 == "begin" } == 1)
        journal.write("go")
        await journal.wait(for: "end")
        for turn in 2...4 {
            await settle {
                clock.advance(by: .seconds(1))
                return journal.entries.count { $0 == "begin" } >= turn
            }
        }
        timer.cancel()
        #expect(clock.pendingTimers == 0)
        await supervisor.stop()
    }

    @Test("they end with the incarnation, and the action's task is cancelled", arguments: [true, false])
    func endWithProcess(kills: Bool) async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, child) = try await holder(clock)
        let context = try await child.call { $0.context }
        context.schedule(every: .seconds(1)) { journal.write("late") }
        context.schedule(after: .milliseconds(1)) {
            journal.write("running")
            try? await Task.sleep(for: .seconds(3600))
            journal.write("cancelled: \(Task.isCancelled)")
        }
        clock.advance(by: .milliseconds(1))
        await journal.wait(for: "running")
        if kills { context.pid.kill() } else { context.pid.exit(.shutdown()) }
        await journal.wait(for: "cancelled: true")
        try await LiveTree(supervisor).settled()
        #expect(clock.pendingTimers == 0)
        // That of a dead incarnation does nothing.
        context.schedule(after: .zero) { journal.write("late") }
        clock.advance(by: .seconds(10))
        #expect(!journal.entries.contains("late"))
        await supervisor.stop()
    }

    /// How a process is ended while the action of one of its timers runs.
    enum Ending: CaseIterable, Sendable {
        case kill, exit, terminate

        func end(_ process: Pid, of supervisor: Supervisor) async throws {
            switch self {
            case .kill: process.kill()
            case .exit: process.exit(.crashed(Broken()))
            case .terminate: try await supervisor.reference().terminateChild("a")
            }
        }
    }

    @Test("a process has ended when the actions of its timers have, and not before", arguments: Ending.allCases)
    func waitsForActions(ending: Ending) async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, child) = try await holder(clock)
        let context = try await child.call { $0.context }
        context.pid.onExit { _ in journal.write("exited") }
        context.schedule(after: .seconds(1)) {
            journal.write("running")
            // Does not listen to its cancellation.
            await journal.wait(for: "go")
            journal.write("action ended")
        }
        clock.advance(by: .seconds(1))
        await journal.wait(for: "running")
        async let ended: Void = ending.end(context.pid, of: supervisor)
        // The time that it may take to end.
        await settle { clock.pendingTimers == 1 }
        #expect(journal.entries == ["running"])
        journal.write("go")
        await journal.wait(for: "exited")
        try await ended
        #expect(journal.entries == ["running", "go", "action ended", "exited"])
        #expect(supervisor.abandonedChildren.isEmpty)
        await supervisor.stop()
        #expect(clock.pendingTimers == 0)
    }

    @Test("an action that ignores its cancellation is abandoned after the kill timeout, and listed until it ends")
    func abandonedAction() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, child) = try await holder(clock)
        let context = try await child.call { $0.context }
        context.schedule(after: .seconds(1)) {
            journal.write("running")
            await journal.wait(for: "go")
        }
        clock.advance(by: .seconds(1))
        await journal.wait(for: "running")
        context.pid.exit(.crashed(Broken()))
        await settle { clock.pendingTimers == 1 }
        clock.advance(by: .seconds(1))
        guard case .crashed(let error) = await context.pid.exited(), error is Broken else {
            Issue.record("unexpected reason")
            return
        }
        #expect(supervisor.abandonedChildren.map(\.path) == ["app/a"])
        await settle { child.pid.map { $0 != context.pid } ?? false }
        journal.write("go")
        await settle { supervisor.abandonedChildren.isEmpty }
        await supervisor.stop()
    }

    @Test("times that are no times count as the nearest that are, and harm nothing")
    func extremes() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, child) = try await holder(clock)
        let context = try await child.call { $0.context }
        let longest = Duration(secondsComponent: .max, attosecondsComponent: 0)
        for delay in [Duration.zero, .seconds(-1), .seconds(Int64.min)] {
            context.schedule(after: delay) { journal.write("due") }
        }
        let never = [
            context.schedule(after: longest) { journal.write("never") },
            context.schedule(every: longest) { journal.write("never") },
        ]
        clock.advance(by: .zero)
        await journal.wait(for: "due", count: 3)
        let repeating = [Duration.zero, .seconds(-1)].map { interval in
            context.schedule(every: interval) { journal.write("again") }
        }
        #expect(clock.nextTimer == .milliseconds(1))
        await settle {
            clock.advance(by: .milliseconds(1))
            return journal.entries.count { $0 == "again" } >= 6
        }
        for timer in repeating + never { timer.cancel() }
        #expect(clock.pendingTimers == 0)
        #expect(!journal.entries.contains("never"))
        await supervisor.stop()
    }

    @Test("an error of the action crashes the process")
    func crash() async throws {
        let clock = ManualClock()
        let (supervisor, child) = try await holder(clock)
        let context = try await child.call { $0.context }
        context.schedule(after: .seconds(1)) { throw Broken() }
        clock.advance(by: .seconds(1))
        guard case .crashed(let error) = await context.pid.exited(), error is Broken else {
            Issue.record("unexpected reason")
            return
        }
        await supervisor.stop()
    }
}

@Suite("A plain actor's failure, and what it shows of itself")
struct PlainActorTests {
    @Test("an actor without run() ends as crashed when its context says so, and is restarted")
    func crash() async throws {
        let (supervisor, child) = try await holder()
        let pid = child.pid
        await #expect {
            try await child.call { holder in
                holder.context.crash(Broken())
                try await Task.sleep(for: .seconds(3600))
            }
        } throws: {
            if case CallError.exited("app/a", .crashed(let error)) = $0 { error is Broken } else { false }
        }
        try await LiveTree(supervisor).settled()
        #expect(child.pid != pid)
        #expect(try await child.call { $0.context.incarnation } == 1)
        #expect(supervisor.tree().children[0].lastExit.map { $0.error is Broken } == true)
        await supervisor.stop()
    }

    @Test("a state report comes from an actor that wants to give one, within its deadline")
    func report() async throws {
        let clock = ManualClock()
        let gate = Gate()
        let (supervisor, child) = try await holder(clock, gate: gate)
        #expect(try await child.stateReport() == StateReport("ticking", ["ticks": "0"]))
        let silent = try supervisor.child("silent", as: Counter.self)
        await #expect {
            try await silent.stateReport()
        } throws: {
            if case CallError.wrongType("app/silent", "StateReporting", "Counter") = $0 { true } else { false }
        }
        let root = try #require(supervisor.pid)
        await #expect(throws: CallError.self) { try await root.stateReport() }
        let busy = try supervisor.child("busy", as: Gated.self)
        gate.close()
        let report = Task { try await busy.pid?.stateReport(timeout: .seconds(1)) }
        await settle { gate.waiting == 1 && clock.pendingTimers == 1 }
        clock.advance(by: .seconds(1))
        await #expect {
            try await report.value
        } throws: {
            if case CallError.timeout = $0 { true } else { false }
        }
        gate.open()
        #expect("\(StateReport("idle", ["a": "1"]))" == "idle\n  a: 1")
        await supervisor.stop()
    }
}

@Suite("A periodic worker")
struct PeriodicWorkerTests {
    private func start(
        _ clock: ManualClock,
        _ journal: Journal,
        backoff: Backoff? = nil,
        firstAfter: Duration = .zero,
        _ work: @escaping @Sendable (Int) async throws -> Void = { _ in }
    ) async throws -> (Supervisor, ChildReference<PeriodicWorker>) {
        let runs = Mutex(0)
        let supervisor = Supervisor("app", logger: LogRecords().logger, clock: clock) {
            Child("poller", restart: .temporary) { context in
                PeriodicWorker(context, every: .seconds(10), firstAfter: firstAfter, backoff: backoff) { _ in
                    let run = runs.withLock { runs in
                        runs += 1
                        return runs
                    }
                    journal.write("run")
                    try await work(run)
                }
            }
        }
        try await supervisor.start()
        return (supervisor, try supervisor.child("poller", as: PeriodicWorker.self))
    }

    @Test("runs at once and then after each interval, which begins when a run has ended")
    func interval() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, _) = try await start(clock, journal) { run in
            if run == 2 { await journal.wait(for: "go") }
        }
        clock.advance(by: .zero)
        await settle {
            clock.advance(by: .zero)
            return journal.entries.count == 1
        }
        await settle { clock.pendingTimers == 1 }
        clock.advance(by: .seconds(9))
        #expect(journal.entries.count == 1)
        clock.advance(by: .seconds(1))
        await journal.wait(for: "run", count: 2)
        clock.advance(by: .seconds(100))
        #expect(journal.entries.count == 2)
        journal.write("go")
        await settle { clock.pendingTimers == 1 }
        clock.advance(by: .seconds(10))
        await journal.wait(for: "run", count: 3)
        await supervisor.stop()
    }

    @Test("after failures it waits as long as the backoff says, and the interval again after a success")
    func backoff() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, poller) = try await start(
            clock,
            journal,
            backoff: Backoff(minimum: .seconds(1), maximum: .seconds(4), jitter: 0)
        ) { run in
            if run < 4 { throw Broken() }
        }
        for (run, delay) in [0, 1, 2, 4, 10].enumerated() {
            await settle { clock.pendingTimers == 1 }
            #expect(clock.nextTimer.map { $0 - clock.now } == .seconds(delay))
            clock.advanceToNextTimer()
            await journal.wait(for: "run", count: run + 1)
        }
        await settle { clock.pendingTimers == 1 }
        #expect(try await poller.call { $0.failuresInARow } == 0)
        #expect(try await poller.call { $0.successes } == 2)
        await supervisor.stop()
    }

    @Test("without a backoff a failure is its crash")
    func crash() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, poller) = try await start(clock, journal, firstAfter: .seconds(1)) { _ in throw Broken() }
        let pid = try #require(poller.pid)
        await settle { clock.pendingTimers == 1 }
        clock.advance(by: .seconds(1))
        guard case .crashed(let error) = await pid.exited(), error is Broken else {
            Issue.record("unexpected reason")
            return
        }
        await supervisor.stop()
    }

    @Test("runs by hand, without overlap: all who ask before a run begins share it, and get its error")
    func manual() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, poller) = try await start(
            clock,
            journal,
            backoff: Backoff(),
            firstAfter: .seconds(1000)
        ) { run in
            if run == 1 { await journal.wait(for: "go") }
            if run == 2 { throw Broken() }
        }
        let first = Task { try await poller.call { try await $0.runNow() } }
        await journal.wait(for: "run")
        let others = (1...3).map { _ in Task { try await poller.call { try await $0.runNow() } } }
        await settleAsync { try await poller.call { $0.waitingRequests } == 3 }
        journal.write("go")
        try await first.value
        for other in others { await #expect(throws: Broken.self) { try await other.value } }
        #expect(journal.entries.count { $0 == "run" } == 2)
        try await poller.call { try await $0.runNow() }
        #expect(journal.entries.count { $0 == "run" } == 3)
        await supervisor.stop()
    }

    @Test("asked to stop, it lets the run that is under way finish")
    func stop() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let (supervisor, _) = try await start(clock, journal, firstAfter: .seconds(1)) { _ in
            await journal.wait(for: "go")
            journal.write("finished: \(!Task.isCancelled)")
        }
        await settle { clock.pendingTimers == 1 }
        clock.advance(by: .seconds(1))
        await journal.wait(for: "run")
        let stopping = Task { _ = await supervisor.stop() }
        await settle { clock.pendingTimers > 0 }
        journal.write("go")
        await stopping.value
        #expect(journal.entries.last == "finished: true")
    }
}

/// Yields until it is so.
private func settleAsync(_ condition: () async throws -> Bool) async {
    while (try? await condition()) != true { await Task.yield() }
}
