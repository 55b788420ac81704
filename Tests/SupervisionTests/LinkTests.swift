import Supervision
import SupervisionTesting
import Testing

@Suite("Links")
struct LinkTests {
    private func start() async throws -> (Supervisor, [Pid]) {
        let supervisor = Supervisor("app") {
            for index in 0..<3 { Child("\(index)", restart: .temporary) { _ in Counter() } }
        }
        try await supervisor.start()
        let pids = try (0..<3).map { try #require(try supervisor.child("\($0)", as: Counter.self).pid) }
        return (supervisor, pids)
    }

    @Test("a wait for the end of a living process that is cancelled has no reason; one for an ended process has it")
    func cancelledWait() async throws {
        let supervisor = Supervisor("app") { Child("a") { _ in Counter() } }
        try await supervisor.start()
        let pid = try #require(try supervisor.child("a", as: Counter.self).pid)
        let waiting = Task { await pid.exited() }
        waiting.cancel()
        let reason = await waiting.value
        #expect(reason == nil)
        #expect(pid.isAlive)
        pid.kill()
        let late = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            return await pid.exited()
        }
        let known = await late.value
        #expect(known?.description == "killed")
        await supervisor.stop()
    }

    @Test("an abnormal end takes the linked process along, with the same reason, and so on")
    func chain() async throws {
        let (supervisor, pids) = try await start()
        pids[0].link(to: pids[1])
        pids[1].link(to: pids[2])
        pids[0].exit(.crashed(TestFailure("first")))
        guard case .crashed(let error) = await pids[2].exited() else {
            Issue.record("unexpected reason")
            return
        }
        #expect(error as? TestFailure == TestFailure("first"))
        await supervisor.stop()
    }

    @Test("without the link nothing happens; a link is one however often it is made")
    func unlink() async throws {
        let (supervisor, pids) = try await start()
        pids[0].link(to: pids[1])
        pids[1].link(to: pids[0])
        pids[0].unlink(from: pids[1])
        pids[0].kill()
        _ = await pids[0].exited()
        #expect(pids[1].isAlive)
        await supervisor.stop()
    }

    @Test("a link to a dead process brings an exit with noProcess")
    func deadLink() async throws {
        let (supervisor, pids) = try await start()
        pids[0].kill()
        _ = await pids[0].exited()
        pids[1].link(to: pids[0])
        guard case .noProcess = await pids[1].exited() else {
            Issue.record("unexpected reason")
            return
        }
        await supervisor.stop()
    }

    @Test("a chain of 10,000 linked processes ends without recursion")
    func longChain() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("many") }
        try await supervisor.start()
        let many = try supervisor.dynamicSupervisor("many")
        var last: Pid?
        var first: Pid?
        for _ in 0..<10_000 {
            let pid = try #require(
                try await many.startChild(Child("x", restart: .temporary) { _ in Counter() })
            )
            last?.link(to: pid)
            if first == nil { first = pid }
            last = pid
        }
        first?.exit(.crashed(TestFailure()))
        _ = await last?.exited()
        try await LiveTree(supervisor).settled()
        #expect(try many.countChildren().specifications == 0)
        await supervisor.stop()
    }
}
