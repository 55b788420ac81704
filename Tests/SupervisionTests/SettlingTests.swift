import Supervision
import SupervisionTesting
import Testing

@Suite("A tree that settles")
struct SettlingTests {
    private func tree(_ clock: any SupervisionClock, dynamic: Bool = false, cooldown: Bool = false) -> Supervisor {
        Supervisor(
            "app",
            intensity: cooldown ? .init(0, within: .seconds(1)) : .init(3, within: .seconds(1)),
            whenExceeded: cooldown ? .cooldown(.seconds(10)) : .escalate,
            clock: clock
        ) {
            if dynamic { DynamicSupervisor("children") }
            Child(
                "counter",
                options: ChildOptions(
                    backoff: cooldown ? nil : Backoff(minimum: .seconds(10), maximum: .seconds(10), jitter: 0)
                )
            ) {
                _ in Counter()
            }
        }
    }

    @Test("is settled while a child waits out its backoff or a cooldown", arguments: [false, true])
    func backoff(cooldown: Bool) async throws {
        let clock = ManualClock()
        let supervisor = tree(clock, cooldown: cooldown)
        try await supervisor.start()
        let live = LiveTree(supervisor)
        try live.end("app/counter", by: .crash())
        try await live.settled()
        #expect(supervisor.tree().children.first?.status == .restarting)
        clock.advance(by: .seconds(10))
        try await live.settled()
        #expect(supervisor.tree().children.first?.status == .running)
        await supervisor.stop()
    }

    @Test("is settled while a child of a dynamic supervisor waits out its backoff")
    func dynamic() async throws {
        let clock = ManualClock()
        let supervisor = tree(clock, dynamic: true)
        try await supervisor.start()
        let children = try supervisor.dynamicSupervisor("children")
        let backoff = Backoff(minimum: .seconds(10), maximum: .seconds(10), jitter: 0)
        let pid = try #require(
            try await children.startChild(Child("a", options: ChildOptions(backoff: backoff)) { _ in Counter() })
        )
        pid.kill()
        try await LiveTree(supervisor).settled()
        #expect(try children.countChildren().active == 0)
        clock.advanceToNextTimer()
        try await LiveTree(supervisor).settled()
        #expect(try children.countChildren().active == 1)
        await supervisor.stop()
    }

    @Test("has restarted only when no child waits for its delay any more")
    func restarted() async throws {
        let supervisor = Supervisor("app") {
            Child(
                "counter",
                options: ChildOptions(
                    backoff: Backoff(minimum: .milliseconds(20), maximum: .milliseconds(20), jitter: 0)
                )
            ) { _ in
                Counter()
            }
        }
        try await supervisor.start()
        try LiveTree(supervisor).end("app/counter")
        try await LiveTree(supervisor).restarted()
        #expect(supervisor.tree().children.first?.status == .running)
        await supervisor.stop()
    }

    @Test("is not settled while a child starts")
    func starting() async throws {
        let journal = Journal()
        let supervisor = Supervisor("app") {
            Child("slow") { _ in
                journal.write("starts")
                await journal.wait(for: "go")
                return Counter()
            }
        }
        let start = Task { try await supervisor.start() }
        await journal.wait(for: "starts")
        await #expect(throws: LiveTree.Failure.self) {
            try await LiveTree(supervisor).settled(within: .milliseconds(5))
        }
        journal.write("go")
        try await start.value
        try await LiveTree(supervisor).settled()
        await supervisor.stop()
    }
}
