import Logging
import ServiceLifecycle
import Supervision
import SupervisionTesting
import Synchronization
import Testing

/// A service that fails until its n-th incarnation.
private struct Flaky: Service {
    let journal: Journal
    let attempts: Mutex<Int>.Shared
    let failures: Int

    func run() async throws {
        let attempt = attempts.next()
        journal.write("run \(attempt)")
        if attempt <= failures { throw TestFailure("attempt \(attempt)") }
        try await gracefulShutdown()
        journal.write("graceful")
    }
}

extension Mutex where Value == Int {
    final class Shared: Sendable {
        private let value = Mutex<Int>(0)
        func next() -> Int {
            value.withLock {
                $0 += 1
                return $0
            }
        }
    }
}

@Suite("Services")
struct ServiceTests {
    private let quiet = Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }

    @Test("a service that fails is made anew and started again, and is shut down gracefully")
    func restarted() async throws {
        let journal = Journal()
        let attempts = Mutex<Int>.Shared()
        let supervisor = Supervisor("app") {
            // However long it takes: the time after which it is cancelled is no part of this.
            Child("flaky", options: ChildOptions(shutdown: .infinity)) { _ in
                Flaky(journal: journal, attempts: attempts, failures: 2)
            }
        }
        try await supervisor.start()
        await journal.wait(for: "run 3")
        await supervisor.stop()
        #expect(journal.entries == ["run 1", "run 2", "run 3", "graceful"])
    }

    @Test("in a service group, a graceful shutdown stops the children in reverse order")
    func inGroup() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") {
            Child("a", options: ChildOptions(shutdown: .infinity)) { Polite($0, journal) }
            Child("b", options: ChildOptions(shutdown: .infinity)) { Polite($0, journal) }
        }
        let group = ServiceGroup(configuration: .init(services: [.init(service: supervisor)], logger: quiet))
        let run = Task { try await group.run() }
        await journal.wait(for: "a runs")
        await journal.wait(for: "b runs")
        await group.triggerGracefulShutdown()
        try await run.value
        #expect(journal.entries.suffix(2) == ["b was asked: true", "a was asked: true"])
    }

    @Test("a tree that gives up fails its service group with the cause")
    func groupFails() async throws {
        let supervisor = Supervisor("app", intensity: .init(0, within: .seconds(1))) {
            Child("broken") { _ in Puppet("broken", Journal()) }
        }
        try await supervisor.start()
        let group = ServiceGroup(configuration: .init(services: [.init(service: supervisor)], logger: quiet))
        let run = Task { try await group.run() }
        try LiveTree(supervisor).end("app/broken", by: .crash(TestFailure("boom")))
        await #expect {
            try await run.value
        } throws: { error in
            guard case SupervisionError.intensityExceeded("app", "app/broken", .crashed(let cause)) = error else {
                return false
            }
            return cause as? TestFailure == TestFailure("boom")
        }
    }
}
