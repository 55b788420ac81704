import Dispatch
import Foundation
import Logging
import Metrics
import MetricsTestKit
import Supervision
import SupervisionTesting
import Synchronization
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
                startTimeout: .seconds(2),
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

    @Test("onUnstoppable: .escalate ends the supervisor, whose parent starts it again")
    func escalate() async throws {
        let clock = ManualClock()
        let journal = Journal()
        let release = Journal()
        let supervisor = Supervisor("app", clock: clock) {
            Supervisor("inner") {
                Child("counter") { _ in Counter() }
                Child("stubborn", onUnstoppable: .escalate) { _ in Stubborn(journal, release) }
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

    @Test("onUnstoppable: .crashProcess ends the OS process, with a report")
    func crashProcess() async throws {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            let journal = Journal()
            let supervisor = Supervisor("app") {
                Child("stubborn", killTimeout: .milliseconds(1), onUnstoppable: .crashProcess) { _ in
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

    @Test("the dead man's switch ends a child that does not report, and leaves one that does")
    func deadMansSwitch() async throws {
        let clock = ManualClock()
        let contexts = Mutex<[ChildContext]>([])
        let supervisor = Supervisor("app", clock: clock) {
            Child("reporter", reportWithin: .seconds(10)) { context in
                contexts.withLock { $0.append(context) }
                return Counter()
            }
        }
        try await supervisor.start()
        let tree = LiveTree(supervisor)
        for _ in 1...3 {
            clock.advance(by: .seconds(9))
            contexts.withLock { $0[0] }.reportAlive()
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

    @Test("with every thread of the pool blocked, exits are received and children killed and started again")
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
                    backoff: Backoff(minimum: .milliseconds(5), maximum: .milliseconds(5), jitter: 0)
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

@Suite("What a tree tells of itself")
struct ObservabilityTests {
    @Test("events come in the order in which things happened")
    func events() async throws {
        let supervisor = Supervisor("app", strategy: .oneForAll) {
            Child("a") { _ in Counter() }
            Child("b") { _ in Counter() }
        }
        try await supervisor.start()
        let events = supervisor.events
        try LiveTree(supervisor).end("app/a")
        try await LiveTree(supervisor).settled()
        await supervisor.stop()
        var told: [String] = []
        for await event in events {
            let kind =
                switch event.kind {
                case .started: "started"
                case .exited(let reason, let expected): "exited \(reason) \(expected)"
                case .stopped(let reason, let expected): "stopped \(reason) \(expected)"
                case .restarting: "restarting"
                default: "other"
                }
            told.append("\(event.path) \(kind)")
        }
        #expect(
            told == [
                "app/a exited killed false", "app/a restarting", "app/b stopped shutdown true", "app/a started",
                "app/b started", "app/b stopped shutdown true", "app/a stopped shutdown true",
            ]
        )
    }

    @Test("a reader that is too slow loses the oldest events, and they are counted")
    func droppedEvents() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("many") }
        try await supervisor.start()
        let events = supervisor.events
        let many = try supervisor.dynamicSupervisor("many")
        for _ in 0..<1500 { try await many.startChild(Child("x") { _ in Counter() }) }
        #expect(events.dropped == 1500 - 1024)
        await supervisor.stop()
    }

    @Test("the tree prints as Mermaid and JSON")
    func formats() async throws {
        let supervisor = Supervisor("app") { Child("a") { _ in Counter() } }
        try await supervisor.start()
        let tree = supervisor.tree()
        #expect(
            tree.mermaid == """
                flowchart TD
                    n0["app<br/>one_for_one"]
                    n1("a<br/>Counter")
                    n0 --> n1
                """
        )
        let json = try #require(
            try JSONSerialization.jsonObject(with: Data(tree.json.utf8)) as? [String: Any]
        )
        #expect(json["name"] as? String == "app")
        let child = try #require((json["children"] as? [[String: Any]])?.first)
        #expect(child["path"] as? String == "app/a")
        #expect(child["status"] as? String == "running")
        #expect(child["age"] is Double)
        await supervisor.stop()
    }

    @Test("logs carry OTP's contexts and stable metadata keys")
    func logs() async throws {
        let lines = Mutex<[(Logger.Level, Logger.Metadata)]>([])
        let logger = Logger(label: "test") { _ in
            Recorder { level, metadata in lines.withLock { $0.append((level, metadata)) } }
        }
        let supervisor = Supervisor("app", intensity: .init(0, within: .seconds(1)), logger: logger) {
            Child("a") { _ in Counter() }
        }
        try await supervisor.start()
        try LiveTree(supervisor).end("app/a")
        try? await supervisor.run()
        let errors = lines.withLock { $0 }.filter { $0.0 == .error }
        #expect(errors.map { $0.1["supervision.context"] } == ["child_terminated", "shutdown"])
        #expect(errors.allSatisfy { $0.1["supervision.path"] == "app/a" && $0.1["supervision.reason"] == "killed" })
        #expect(errors.allSatisfy { $0.1["supervision.supervisor"] == "app" })
    }

    @Test("metrics count restarts, children and durations")
    func metrics() async throws {
        await #expect(processExitsWith: .success) {
            let test = TestMetrics()
            MetricsSystem.bootstrap(test)
            let supervisor = Supervisor("app") {
                Child("a") { _ in Counter() }
                Child("b") { _ in Counter() }
            }
            try await supervisor.start()
            try LiveTree(supervisor).end("app/a")
            try await LiveTree(supervisor).settled()
            let dimensions = [("tree", "app")]
            #expect(try test.expectCounter("supervision.restarts", dimensions).totalValue == 1)
            #expect(try test.expectCounter("supervision.exits.abnormal", dimensions).totalValue == 1)
            #expect(try test.expectMeter("supervision.children", dimensions).lastValue == 2)
            #expect(try test.expectTimer("supervision.start.duration", dimensions).values.count == 3)
            #expect(try test.expectTimer("supervision.restart.duration", dimensions).values.count == 1)
            await supervisor.stop()
            #expect(try test.expectMeter("supervision.children", dimensions).lastValue == 0)
        }
    }
}

private struct Recorder: LogHandler {
    var metadata: Logger.Metadata = [:]
    var logLevel = Logger.Level.debug
    let record: @Sendable (Logger.Level, Logger.Metadata) -> Void

    init(_ record: @escaping @Sendable (Logger.Level, Logger.Metadata) -> Void) { self.record = record }

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    func log(event: LogEvent) {
        record(event.level, event.metadata ?? [:])
    }
}
