import Supervision
import SupervisionTesting
import Synchronization
import Testing

/// An actor that knows its own reference.
actor Selfish {
    let myself: ChildReference<Selfish>
    private var value = 0

    init(_ context: ChildContext) { myself = context.reference(as: Selfish.self) }

    func increment() -> Int {
        value += 1
        return value
    }
}

@Suite("A reference to oneself, and calls while a child is restarted")
struct ReferenceTests {
    @Test("a child of a dynamic supervisor has a reference to itself that survives its restarts")
    func dynamicSelf() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("sessions") }
        try await supervisor.start()
        let sessions = try supervisor.dynamicSupervisor("sessions")
        for _ in 1...3 { _ = try await sessions.startChild(Child("session") { Selfish($0) }) }
        let child = try #require(try await sessions.startChild(Child("session") { Selfish($0) }, as: Selfish.self))
        let myself = try await child.call { $0.myself }
        #expect(myself.path == child.path)
        #expect(myself.pid == child.pid)
        child.pid?.kill()
        try await LiveTree(supervisor).settled()
        #expect(myself.pid != nil)
        #expect(myself.pid == child.pid)
        #expect(try await myself.call { $0.increment() } == 1)
        await supervisor.stop()
    }

    @Test("a static child has one too")
    func staticSelf() async throws {
        let supervisor = Supervisor("app") { Child("a") { Selfish($0) } }
        try await supervisor.start()
        let child = try supervisor.child("a", as: Selfish.self)
        let myself = try await child.call { $0.myself }
        #expect(myself.path == "app/a")
        #expect(myself.pid == child.pid)
        await supervisor.stop()
    }

    @Test("the path of a dynamic child is the same in trees, events, contexts and references over its restarts")
    func stablePath() async throws {
        let supervisor = Supervisor("app") { DynamicSupervisor("sessions", intensity: .init(10, within: .seconds(5))) }
        try await supervisor.start()
        let events = supervisor.events
        let contexts = Mutex<[String]>([])
        let sessions = try supervisor.dynamicSupervisor("sessions")
        _ = try await sessions.startChild(Child("session") { _ in Counter() })
        let child = try #require(
            try await sessions.startChild(
                Child("session") { context in
                    contexts.withLock { $0.append(context.path) }
                    return Counter()
                },
                as: Counter.self
            )
        )
        // Nested supervisors as well, and what is below them.
        _ = try await sessions.startChild(Child("session") { _ in Counter() })
        for _ in 1...3 {
            child.pid?.kill()
            try await LiveTree(supervisor).settled()
        }
        #expect(Set(contexts.withLock { $0 }) == [child.path])
        #expect(contexts.withLock { $0.count } == 4)
        let nodes = supervisor.tree().nodes.filter { $0.path == child.path }
        #expect(nodes.map(\.restarts) == [3])
        #expect(try sessions.whichChildren().contains { "app/sessions/" + $0.id == child.path })
        await supervisor.stop()
        var paths: [String: Int] = [:]
        for await event in events { paths[event.path, default: 0] += 1 }
        #expect(paths.keys.filter { $0.hasPrefix("app/sessions/") }.count == 3)
        #expect(paths[child.path].map { $0 >= 10 } == true)
    }

    @Test("a call that waits while its child is restarted runs once, on the next incarnation")
    func waits() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("app", clock: clock) {
            Child("a", options: ChildOptions(backoff: Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0))) {
                _ in Counter()
            }
        }
        try await supervisor.start()
        let child = try supervisor.child("a", as: Counter.self)
        child.pid?.kill()
        await #expect {
            try await child.call { $0.increment() }
        } throws: {
            if case CallError.restarting("app/a") = $0 { true } else { false }
        }
        let timers = clock.pendingTimers
        async let waiting = child.call(whileRestarting: .wait) { $0.increment() }
        await settle { clock.pendingTimers > timers }
        clock.advance(by: .seconds(1))
        #expect(try await waiting == 1)
        await supervisor.stop()
    }

    @Test("waiting ends with the call's timeout, as an error that says that the body did not run")
    func waitsInVain() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("app", clock: clock) {
            Child("a", options: ChildOptions(backoff: Backoff(minimum: .seconds(60), maximum: .seconds(60), jitter: 0)))
            { _ in Counter() }
        }
        try await supervisor.start()
        let child = try supervisor.child("a", as: Counter.self)
        child.pid?.kill()
        let timers = clock.pendingTimers
        let waiting = Task { try await child.call(timeout: .seconds(2), whileRestarting: .wait) { $0.increment() } }
        await settle { clock.pendingTimers > timers }
        clock.advance(by: .seconds(2))
        await #expect {
            try await waiting.value
        } throws: { error in
            guard let error = error as? CallError, case .restarting("app/a") = error else { return false }
            return error.isRetrySafe
        }
        let cancelled = Task { try await child.call(whileRestarting: .wait) { $0.increment() } }
        await settle { clock.pendingTimers > timers }
        cancelled.cancel()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        #expect(clock.pendingTimers == timers)
        await supervisor.stop()
    }

    /// What a call can come through to one process.
    enum Found: CaseIterable, Sendable { case child, dynamic, key }

    @Test(
        "a process that ends after a call has found it and before it is called costs no call that waits",
        arguments: Found.allCases
    )
    func endsInBetween(found: Found) async throws {
        let clock = HookedClock()
        let tenants = KeyedSupervisor<String, Counter>("tenants") { _, _ in Counter() }
        let supervisor = Supervisor("app", intensity: .init(10, within: .seconds(5)), clock: clock) {
            Child("a") { _ in Counter() }
            DynamicSupervisor("sessions")
            tenants
        }
        try await supervisor.start()
        let call: @Sendable (WhileRestarting) async throws -> Int
        let pid: () -> Pid?
        // The look at the clock between the two: a call by key has looked once before.
        let look: Int
        switch found {
        case .child:
            let child = try supervisor.child("a", as: Counter.self)
            (call, pid, look) = ({ try await child.call(whileRestarting: $0) { $0.increment() } }, { child.pid }, 1)
        case .dynamic:
            let sessions = try supervisor.dynamicSupervisor("sessions")
            let child = try #require(try await sessions.startChild(Child("s") { _ in Counter() }, as: Counter.self))
            (call, pid, look) = ({ try await child.call(whileRestarting: $0) { $0.increment() } }, { child.pid }, 1)
        case .key:
            try await tenants["ada"].findOrStart()
            let child = tenants["ada"]
            (call, pid, look) = ({ try await child.call(whileRestarting: $0) { $0.increment() } }, { child.pid }, 2)
        }
        for _ in 1...3 {
            try await LiveTree(supervisor).settled()
            let current = try #require(pid())
            clock.onLook(look) { current.kill() }
            #expect(try await call(.wait) == 1)
            #expect(!current.isAlive)
        }
        await supervisor.stop()
    }

    @Test("or for good: a call by place says that there is none, a call by key gets another", arguments: [true, false])
    func endsForGoodInBetween(byKey: Bool) async throws {
        let clock = HookedClock()
        let tenants = KeyedSupervisor<String, Counter>("tenants", processRestart: .temporary) { _, _ in Counter() }
        let supervisor = Supervisor("app", clock: clock) {
            Child("a", restart: .temporary) { _ in Counter() }
            tenants
        }
        try await supervisor.start()
        let child = try supervisor.child("a", as: Counter.self)
        let pid = byKey ? try await tenants["ada"].findOrStart() : try #require(child.pid)
        try await LiveTree(supervisor).settled()
        clock.onLook(byKey ? 2 : 1) { pid.kill() }
        if byKey {
            #expect(try await tenants["ada"].call { $0.increment() } == 1)
            #expect(tenants["ada"].pid != pid)
        } else {
            await #expect {
                try await child.call(whileRestarting: .wait) { $0.increment() }
            } throws: {
                if case CallError.noProcess("app/a") = $0 { true } else { false }
            }
        }
        #expect(!pid.isAlive)
        await supervisor.stop()
    }

    @Test("siblings of a group restart are waited for too", arguments: [Strategy.oneForAll, .restForOne])
    func group(strategy: Strategy) async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("app", strategy: strategy, clock: clock) {
            Child("a", options: ChildOptions(backoff: Backoff(minimum: .seconds(1), maximum: .seconds(1), jitter: 0))) {
                _ in Counter()
            }
            Child("b") { _ in Counter() }
        }
        try await supervisor.start()
        let a = try supervisor.child("a", as: Counter.self)
        let b = try supervisor.child("b", as: Counter.self)
        a.pid?.kill()
        let timers = clock.pendingTimers
        async let waiting = b.call(whileRestarting: .wait) { $0.increment() }
        await settle { clock.pendingTimers > timers }
        clock.advance(by: .seconds(1))
        #expect(try await waiting == 1)
        await supervisor.stop()
    }

    @Test("whoever waits hears at once that the child will not come back")
    func gone() async throws {
        let clock = ManualClock()
        let supervisor = Supervisor("app", clock: clock) {
            Child("a", options: ChildOptions(backoff: Backoff(minimum: .seconds(60), maximum: .seconds(60), jitter: 0)))
            { _ in Counter() }
            DynamicSupervisor("sessions")
        }
        try await supervisor.start()
        let a = try supervisor.child("a", as: Counter.self)
        let sessions = try supervisor.dynamicSupervisor("sessions")
        let backoff = Backoff(minimum: .seconds(60), maximum: .seconds(60), jitter: 0)
        let child = try #require(
            try await sessions.startChild(
                Child("s", options: ChildOptions(backoff: backoff)) { _ in Counter() },
                as: Counter.self
            )
        )
        let pid = try #require(child.pid)
        a.pid?.kill()
        pid.kill()
        let timers = clock.pendingTimers
        let first = Task { try await a.call(whileRestarting: .wait) { $0.increment() } }
        let second = Task { try await child.call(whileRestarting: .wait) { $0.increment() } }
        await settle { clock.pendingTimers == timers + 2 }
        try await supervisor.reference().terminateChild("a")
        try await sessions.terminateChild(pid)
        for task in [first, second] {
            await #expect {
                try await task.value
            } throws: {
                if case CallError.noProcess = $0 { true } else { false }
            }
        }
        await supervisor.stop()
    }
}

/// Yields until it is so.
func settle(_ condition: () -> Bool) async {
    while !condition() { await Task.yield() }
}
