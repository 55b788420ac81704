import Dispatch
import Foundation
import Logging
import Metrics
import MetricsTestKit
import Supervision
import SupervisionTesting
import Synchronization
import TestTurns
import Testing

@Suite("Children that misbehave")
struct UnstoppableTests {
    @Test("a start that takes longer than its timeout fails the boot, and what it made later is ended")
    func startTimeout() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let supervisor = Supervisor("app", clock: clock) {
            Child(
                "slow",
                options: ChildOptions(startTimeout: .seconds(2)),
                onKill: { (_: Counter) in journal.write("hook") },
                start: { _ in
                    journal.write("starting")
                    await journal.wait(for: "go")
                    return Counter()
                }
            )
        }
        let start = Task { try await supervisor.start() }
        await journal.wait(for: "starting")
        clock.advance(by: .seconds(2))
        clock.advance(by: .seconds(1))
        await #expect {
            try await start.value
        } throws: { error in
            guard case SupervisionError.failedToStart("app/slow", .crashed(let cause)) = error,
                case SupervisionError.startTimedOut("app/slow", .seconds(2)) = cause
            else { return false }
            return true
        }
        journal.write("go")
        await journal.wait(for: "hook")
    }

    @Test("an abandoned child is listed with its age until it ends")
    func listed() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let release = Journal()
        let supervisor = Supervisor("app", clock: clock) {
            Child("stubborn", restart: .temporary) { _ in Stubborn(journal, release) }
        }
        try await supervisor.start()
        await journal.wait(for: "runs")
        try LiveTree(supervisor).end("app/stubborn")
        clock.advance(by: .seconds(1))
        try await LiveTree(supervisor).settled()
        clock.advance(by: .seconds(5))
        let zombies = supervisor.abandonedChildren
        #expect(zombies.count == 1)
        #expect(zombies.first?.path == "app/stubborn")
        #expect(zombies.first?.age == .seconds(5))
        let left = await supervisor.stop()
        #expect(left.map(\.type) == ["Stubborn"])
        release.write("go")
    }

    @Test("a task that ends in the moment in which it is abandoned is not listed")
    func endsWhileAbandoned() async throws {
        let clock = HookedClock()
        let journal = Journal()
        let release = Journal()
        let supervisor = Supervisor("app", clock: clock) {
            Child("stubborn", restart: .temporary) { _ in Stubborn(journal, release) }
        }
        try await supervisor.start()
        await journal.wait(for: "runs")
        let tree = supervisor.testing
        try LiveTree(supervisor).end("app/stubborn")
        // The first look at the clock is before it is decided to abandon it, the second before it is entered in the list.
        clock.onLook(2) {
            release.write("go")
            while tree.runningTasks > 0 { sched_yield() }
        }
        clock.advance(by: .seconds(1))
        #expect(tree.zombies().isEmpty)
        #expect(tree.runningTasks == 0)
        await supervisor.stop()
    }

    @Test("onUnstoppable: .escalate ends the supervisor, whose parent starts it again")
    func escalate() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let release = Journal()
        let supervisor = Supervisor("app", clock: clock) {
            Supervisor("inner") {
                Child("counter") { _ in Counter() }
                Child("stubborn", options: ChildOptions(onUnstoppable: .escalate)) { _ in Stubborn(journal, release) }
            }
        }
        try await supervisor.start()
        await journal.wait(for: "runs")
        let counter = try supervisor.child("inner", "counter", as: Counter.self)
        let before = try #require(counter.pid)
        try LiveTree(supervisor).end("app/inner/stubborn")
        clock.advance(by: .seconds(1))
        await journal.wait(for: "runs", count: 2)
        try await LiveTree(supervisor).settled()
        #expect(counter.pid != before)
        guard
            case .shutdown(SupervisionError.unstoppable("app/inner/stubborn")?) = supervisor.tree().children[0].lastExit
        else {
            Issue.record("unexpected exit: \(String(describing: supervisor.tree().children[0].lastExit))")
            return
        }
        release.write("go")
        await supervisor.stop()
    }

    @Test("onUnstoppable: .crashProcess ends the OS process, with a report", .exitTest)
    func crashProcess() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let journal = Journal()
            let supervisor = Supervisor("app") {
                Child("stubborn", options: ChildOptions(killTimeout: .milliseconds(1), onUnstoppable: .crashProcess)) {
                    _ in
                    Stubborn(journal, journal)
                }
            }
            try await supervisor.start()
            await journal.wait(for: "runs")
            try LiveTree(supervisor).end("app/stubborn")
            await journal.wait(for: "never")
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains("supervision: ending the OS process: 'app/stubborn' ignores its cancellation"))
    }

    @Test("a child that sends no heartbeat in time is ended, and one that does is left")
    func heartbeatTimeout() async throws {
        let clock = ManualClock()
        let contexts = Mutex<[ChildContext]>([])
        let supervisor = Supervisor("app", clock: clock) {
            Child("reporter", options: ChildOptions(heartbeatTimeout: .seconds(10))) { context in
                contexts.withLock { $0.append(context) }
                return Counter()
            }
        }
        try await supervisor.start()
        let tree = LiveTree(supervisor)
        for _ in 1...3 {
            clock.advance(by: .seconds(9))
            contexts.withLock { $0[0] }.heartbeat()
        }
        try await tree.settled()
        #expect(contexts.withLock { $0.count } == 1)
        clock.advance(by: .seconds(10))
        try await tree.settled()
        #expect(contexts.withLock { $0.count } == 2)
        guard case .crashed(let error) = supervisor.tree().children[0].lastExit,
            case SupervisionError.unresponsive("app/reporter", .seconds(10)) = error
        else {
            Issue.record("unexpected exit")
            return
        }
        await supervisor.stop()
    }

    @Test("with every thread of the pool blocked, exits are received and children killed and started again", .exitTest)
    func starvedPool() async {
        await #expect(processExitsWith: .success) {
            let started = DispatchSemaphore(value: 0)
            let supervisor = Supervisor("app", intensity: .init(1000, within: .seconds(1))) {
                Child("counter", onKill: { (_: Counter) in }) { _ in
                    started.signal()
                    return Counter()
                }
                Child(
                    "delayed",
                    options: ChildOptions(
                        backoff: Backoff(minimum: .milliseconds(5), maximum: .milliseconds(5), jitter: 0)
                    )
                ) { _ in
                    started.signal()
                    return Counter()
                }
            }
            try await supervisor.start()
            // More blockers than the pool has threads.
            for _ in 0..<(ProcessInfo.processInfo.processorCount * 2) { Task.detached { block() } }
            Thread.detachNewThread {
                for _ in 0..<2 { started.wait() }
                for _ in 1...5 {
                    for id in ["counter", "delayed"] {
                        guard let pid = (try? supervisor.child(id, as: Counter.self))?.pid else { exit(1) }
                        pid.kill()
                        guard started.wait(timeout: .now() + 20) == .success else { exit(2) }
                        guard !pid.isAlive, supervisor.tree().children.count == 2 else { exit(3) }
                        while (try? supervisor.child(id, as: Counter.self))?.pid == nil { usleep(1000) }
                    }
                }
                exit(0)
            }
            block()
        }
    }
}

@Sendable
private func block() {
    while true { sleep(1000) }
}
