import SupervisionTesting
import Testing

@testable import Supervision

@Suite("A snapshot of a tree")
struct TreeSnapshotTests {
    private actor Plain {}

    private actor Talker: Worker, StateReporting {
        func run() async throws { try await Task.sleep(for: .seconds(3600)) }
        func stateReport() -> StateReport { StateReport("idle", ["sent": "3"]) }
    }

    private func tree(clock: any SupervisionClock = SystemSupervisionClock.shared) -> Supervisor {
        Supervisor("app", strategy: .restForOne, intensity: .init(3, within: .seconds(5)), clock: clock) {
            Child("names") { _ in Registry<String, Int>() }
            Supervisor("inner", strategy: .oneForAll) {
                Child("a") { _ in Plain() }
                Child("b") { _ in Talker() }
            }
            DynamicSupervisor("sessions")
            Child("last") { _ in Plain() }
        }
    }

    @Test("it has each process before its children, siblings in start order, as the tree that is printed has them")
    func order() async throws {
        let supervisor = tree()
        try await supervisor.start()
        for _ in 0..<3 {
            let started: Pid? = try await supervisor.dynamicSupervisor("sessions").startChild(
                Child("s") { _ in Plain() }
            )
            #expect(started != nil)
        }
        let snapshot = try #require(supervisor.snapshot())
        let printed = supervisor.tree().nodes
        #expect(snapshot.nodes.indices.map { snapshot.path($0) } == printed.map(\.path))
        #expect(snapshot.nodes.map(\.pid) == printed.map(\.pid))
        #expect(snapshot.nodes[0].end == snapshot.nodes.count)
        #expect(snapshot.children(0).map { snapshot.nodes[$0].name } == ["names", "inner", "sessions", "last"])
        for index in snapshot.nodes.indices { #expect(snapshot.index(of: snapshot.path(index)) == index) }
        #expect(snapshot.index(of: "app/inner/c") == nil)
        #expect(snapshot.index(of: "other") == nil)
        await supervisor.stop()
    }

    @Test("a dynamic child keeps its path when it is restarted")
    func dynamicPath() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let started: Pid? = try await supervisor.dynamicSupervisor("sessions").startChild(Child("s") { _ in Plain() })
        let pid = try #require(started)
        let before = try #require(supervisor.snapshot())
        let index = try #require(before.nodes.firstIndex { $0.pid == pid })
        pid.kill()
        _ = await supervisor.settled()
        let after = try #require(supervisor.snapshot())
        let same = try #require(after.index(of: before.path(index)))
        #expect(after.nodes[same].pid != pid)
        #expect(after.nodes[same].restarts == 1)
        await supervisor.stop()
    }

    @Test("it tells how many restarts count for the intensity, and forgets those that are older than the period")
    func window() async throws {
        let clock = ManualClock()
        let supervisor = tree(clock: clock)
        try await supervisor.start()
        for _ in 0..<2 {
            try supervisor.child("last", as: Plain.self).pid?.kill()
            _ = await supervisor.settled()
        }
        #expect(supervisor.snapshot()?.nodes[0].window?.used == 2)
        #expect(supervisor.snapshot()?.nodes[0].window?.intensity == .init(3, within: .seconds(5)))
        clock.advance(by: .seconds(6))
        #expect(supervisor.snapshot()?.nodes[0].window?.used == 0)
        await supervisor.stop()
    }

    @Test("a child that cools down says for how long yet")
    func cooldown() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor(
            "app",
            intensity: .init(0, within: .seconds(5)),
            whenExceeded: .cooldown(.seconds(10)),
            clock: clock
        ) {
            Child("a") { _ in Plain() }
        }
        try await supervisor.start()
        try supervisor.child("a", as: Plain.self).pid?.kill()
        clock.advance(by: .seconds(4))
        let node = try #require(supervisor.snapshot()?.nodes.last)
        #expect(node.status == .restarting)
        #expect(node.delay == TreeSnapshot.Delay(remaining: .seconds(6), isCooldown: true))
        await supervisor.stop()
    }

    @Test("looking at a process finds its links, monitors, names, specification and what it says about itself")
    func inspection() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let snapshot = try #require(supervisor.snapshot())
        let a = try #require(snapshot.index(of: "app/inner/a").flatMap { snapshot.nodes[$0].pid })
        let b = try #require(snapshot.index(of: "app/inner/b").flatMap { snapshot.nodes[$0].pid })
        a.link(to: b)
        let names = try supervisor.child("names", as: Registry<String, Int>.self)
        try await names.call { try $0.register("blue", 1, for: b) }
        let waiting = Task { await b.exited() }
        while supervisor.inspect("app/inner/b")?.monitors == 0 { await Task.yield() }
        let found = try #require(supervisor.inspect("app/inner/b"))
        #expect(found.pid == b)
        #expect(found.links == [a])
        #expect(found.monitors == 1)
        #expect(found.names.map(\.name) == ["blue"])
        #expect(found.names.map(\.registry) == ["app/names"])
        #expect(found.specification.contains { $0 == ("restart", "permanent") })
        #expect(found.reportsState)
        #expect(try await found.pid?.stateReport() == StateReport("idle", ["sent": "3"]))
        #expect(supervisor.inspect("app/inner")?.specification.contains { $0 == ("strategy", "one_for_all") } == true)
        #expect(supervisor.inspect("app")?.pid == supervisor.pid)
        for missing in ["", "other", "ap", "app/", "app/none", "app/inner/b/c"] {
            #expect(supervisor.inspect(missing) == nil)
        }
        await supervisor.stop()
        _ = await waiting.value
        #expect(supervisor.inspect("app") == nil)
        #expect(supervisor.snapshot() == nil)
    }

    @Test("who listens to failures only hears nothing of children that come and go")
    func interest() async throws {
        let supervisor = tree()
        try await supervisor.start()
        let failures = try #require(supervisor.events(.failures))
        let sessions = try supervisor.dynamicSupervisor("sessions")
        let started: Pid? = try await sessions.startChild(Child("s", restart: .temporary) { _ in Plain() })
        let pid = try #require(started)
        try await sessions.terminateChild(pid)
        try supervisor.child("last", as: Plain.self).pid?.kill()
        _ = await supervisor.settled()
        await supervisor.stop()
        var heard: [String] = []
        for await event in failures {
            switch event.kind {
            case .exited: heard.append("exited \(event.path)")
            case .restarting: heard.append("restarting \(event.path)")
            case .started, .ignored, .startFailed, .stopped, .coolingDown, .gaveUp, .abandoned:
                heard.append("other \(event.path)")
            }
        }
        #expect(heard == ["exited app/last", "restarting app/last"])
    }
}
