import Logging
import SupervisionTesting
import Synchronization
import Testing

@testable import Supervision

@Suite("supervisor_SUITE: administration")
struct AdministrationTests {
    @Test("child_adm: the whole life of a child, with every error")
    func lifeCycle() async throws {
        try await Story(supervisor(child("a")))
            .then(.admin("root", .startChild(child("a"))), "result root start_child a: already_started")
            .then(.admin("root", .restartChild("a")), "result root restart_child a: running")
            .then(.admin("root", .deleteChild("a")), "result root delete_child a: running")
            .then(
                .admin("root", .terminateChild("a")),
                "stop root#1/a#1 shutdown",
                "result root terminate_child a: ok",
                "state root#1 a=undefined counts 1 0 0 1"
            )
            .then(.admin("root", .terminateChild("a")), "result root terminate_child a: ok")
            .then(.admin("root", .startChild(child("a"))), "result root start_child a: already_present")
            .then(.admin("root", .restartChild("a")), "result root restart_child a: ok root#1/a#2")
            .then(.admin("root", .terminateChild("a")))
            .then(.admin("root", .deleteChild("a")), "result root delete_child a: ok", "state root#1 counts 0 0 0 0")
            .then(.admin("root", .terminateChild("a")), "result root terminate_child a: not_found")
            .then(.admin("root", .restartChild("a")), "result root restart_child a: not_found")
            .then(.admin("root", .deleteChild("a")), "result root delete_child a: not_found")
            .then(.admin("root", .startChild(child("a"))), "result root start_child a: ok root#1/a#3")
            .check()
        let supervisor = Supervisor("root", logger: .quiet) {}
        try await supervisor.start()
        let reference = try supervisor.reference()
        await supervisor.stop()
        await #expect(throws: AdministrationError.self) { try await reference.terminateChild("a") }
    }

    @Test("extra_return: what a start makes is the actor itself; a child that was added is restarted as any other")
    func extra() async throws {
        let supervisor = Supervisor("root", logger: .quiet) {}
        try await supervisor.start()
        let reference = try supervisor.reference()
        let first = try #require(try await reference.startChild(Child("x") { _ in Idler() }))
        first.kill()
        try await LiveTree(supervisor).settled()
        let second = try #require(reference.whichChildren().first?.pid)
        #expect(second != first)
        #expect(second.isAlive)
        await supervisor.stop()
    }

    @Test("which_children: in every state, the last started first")
    func whichChildren() async throws {
        try await Story(
            supervisor(child("a"), nested("s", child("x")), child("i")),
            plans: [("root/i", [.ignores])],
            boots: "state root#1 i=undefined s=root#1/s#1 a=root#1/a#1 counts 3 2 1 2"
        )
        .then(
            .admin("root", .startChild(child("z"))),
            "state root#1 z=root#1/z#1 i=undefined s=root#1/s#1 a=root#1/a#1 counts 4 3 1 3"
        )
        .then(
            .admin("root", .terminateChild("s")),
            "state root#1 z=root#1/z#1 i=undefined s=undefined a=root#1/a#1 counts 4 2 1 3"
        )
        .check()
    }

    @Test(
        "count_restarting_children: a child that waits for its restart is counted, but not as active, and can be terminated"
    )
    func countRestarting() async throws {
        let clock = ManualClock()
        let backoff = Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0, resetAfter: .seconds(60))
        let supervisor = Supervisor("root", logger: .quiet, clock: clock) {
            Child("a", options: ChildOptions(backoff: backoff)) { _ in Idler() }
            Child("b") { _ in Idler() }
        }
        try await supervisor.start()
        let reference = try supervisor.reference()
        try #require(supervisor.child("a", as: Idler.self).pid).kill()
        #expect(reference.countChildren() == ChildCounts(specifications: 2, active: 1, supervisors: 0, workers: 2))
        #expect(reference.whichChildren().map(\.status) == [.running, .restarting])
        try await reference.terminateChild("a")
        clock.advance(by: .seconds(10))
        try await LiveTree(supervisor).settled()
        #expect(reference.countChildren() == ChildCounts(specifications: 2, active: 1, supervisors: 0, workers: 2))
        #expect(reference.whichChildren().map(\.status) == [.running, .stopped])
        await supervisor.stop()
    }

    @Test(
        "simple_global_supervisor: a child that is ended in any way gets its name back when it is restarted",
        arguments: [Scenario.Ending.crash, .kill, .shutdown, .cause]
    )
    func names(ending: Scenario.Ending) async throws {
        let names = Registry<String, Int>()
        let supervisor = Supervisor("root", intensity: .init(10, within: .seconds(3600)), logger: .quiet) {
            Child("a") { context in
                try names.register("name", context.incarnation, for: context.pid)
                return Idler()
            }
        }
        try await supervisor.start()
        let first = try #require(names.lookup("name")?.pid)
        switch ending {
        case .crash, .normal: first.crash(ScenarioError.crash)
        case .kill: first.kill()
        case .shutdown: first.exit(.shutdown())
        case .cause: first.exit(.shutdown(cause: ScenarioError.cause))
        }
        try await LiveTree(supervisor).settled()
        let second = try #require(names.lookup("name"))
        #expect(second.pid != first)
        #expect(second.value == 1)
        await supervisor.stop()
    }

    @Test("scale_start_stop_many_children: ten thousand children start and stop")
    func scale() async throws {
        let supervisor = Supervisor("root") {
            for index in 0..<10_000 { Child("\(index)") { _ in Idler() } }
        }
        try await supervisor.start()
        #expect(try supervisor.reference().countChildren().active == 10_000)
        await supervisor.stop()
        #expect(supervisor.pid == nil)
    }
}

@Suite("supervisor_SUITE: reports")
struct ReportTests {
    @Test("external_start_no_progress_log: a child that is started by a caller is not reported at info level")
    func noProgress() async throws {
        let log = Log()
        let supervisor = Supervisor("root", logger: log.logger(.info)) {}
        try await supervisor.start()
        try await supervisor.reference().startChild(Child("x") { _ in Idler() })
        // The tree itself is.
        #expect(log.entries.map(\.message) == ["tree started"])
        await supervisor.stop()
    }

    @Test("format_log_1: a report says context, supervisor, child, incarnation and reason, each under a stable key")
    func keys() async throws {
        let log = Log()
        let supervisor = Supervisor("root", logger: log.logger(.error)) { Child("a") { _ in Idler() } }
        try await supervisor.start()
        let pid = try #require(supervisor.child("a", as: Idler.self).pid)
        pid.kill()
        try await LiveTree(supervisor).settled()
        let metadata = try #require(log.entries.first?.metadata)
        #expect(metadata["supervision.context"] == "child_terminated")
        #expect(metadata["supervision.supervisor"] == "root")
        #expect(metadata["supervision.path"] == "root/a")
        #expect(metadata["supervision.pid"] == "\(pid)")
        #expect(metadata["supervision.reason"] == "killed")
        await supervisor.stop()
    }

    @Test("format_log_2: the message is one line, the same for all reports of a kind")
    func oneLine() async throws {
        let log = Log()
        let supervisor = Supervisor("root", logger: log.logger(.debug)) {
            Child("a") { _ in Idler() }
            Child("b") { _ in Idler() }
        }
        try await supervisor.start()
        for name in ["a", "b"] { try #require(supervisor.child(name, as: Idler.self).pid).kill() }
        try await LiveTree(supervisor).settled()
        await supervisor.stop()
        #expect(log.entries.allSatisfy { !$0.message.contains("\n") && !$0.message.isEmpty })
        let ended = log.entries.filter { $0.metadata["supervision.context"] == "child_terminated" }.map(\.message)
        #expect(ended == ["child ended", "child ended"])
    }
}

/// Keeps what is logged.
private final class Log: Sendable {
    private let state = Mutex<[(message: String, metadata: Logger.Metadata)]>([])

    var entries: [(message: String, metadata: Logger.Metadata)] { state.withLock { $0 } }

    func logger(_ level: Logger.Level) -> Logger {
        var logger = Logger(label: "conformance") { _ in Handler(log: self, logLevel: level) }
        logger.logLevel = level
        return logger
    }

    private struct Handler: LogHandler {
        let log: Log
        var metadata: Logger.Metadata = [:]
        var logLevel: Logger.Level

        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }

        func log(event: LogEvent) {
            log.state.withLock { $0.append(("\(event.message)", event.metadata ?? [:])) }
        }
    }
}
