import Dispatch
import Foundation
import SupervisionTesting
import Synchronization
import TestTurns
import Testing

@testable import Supervision

@Suite("A start closure that is waited for", .timeLimit(.minutes(2)))
struct WaitingThreadTests {
    @TaskLocal
    static var local = "none"

    private let many = RestartIntensity(1_000_000, within: .seconds(3600))

    private func start() async throws -> (Supervisor, DynamicSupervisorReference) {
        let supervisor = Supervisor("app", intensity: many) { DynamicSupervisor("sessions", intensity: many) }
        try await supervisor.start()
        return (supervisor, try supervisor.dynamicSupervisor("sessions"))
    }

    @Test("runs on the thread of whoever waits, if it is not suspended, in a task without task-local values")
    func thread() async throws {
        guard #available(macOS 26, iOS 26, tvOS 26, watchOS 26, visionOS 26, *) else { return }
        let (supervisor, sessions) = try await start()
        let seen = Mutex<(thread: ThreadIdentity, local: String)?>(nil)
        let template = ChildTemplate("session") { (_: Int, _) in
            seen.withLock { $0 = (ThreadIdentity.current, WaitingThreadTests.local) }
            return Counter()
        }
        try await WaitingThreadTests.$local.withValue("caller") {
            let thread = ThreadIdentity.current
            _ = try await sessions.startChild(template, with: 1)
            let (startedOn, local) = try #require(seen.withLock { $0 })
            #expect(startedOn == thread)
            #expect(local == "none")
        }
        await supervisor.stop()
    }

    @Test("does not take the thread of a task that prefers an executor")
    func executor() async throws {
        let (supervisor, sessions) = try await start()
        let thread = Mutex<ThreadIdentity?>(nil)
        let executor = ThreadExecutor()
        let caller = try await withTaskExecutorPreference(executor) {
            let caller = ThreadIdentity.current
            _ = try await sessions.startChild(
                Child("session") { _ in
                    thread.withLock { $0 = ThreadIdentity.current }
                    return Counter()
                }
            )
            return caller
        }
        executor.end()
        #expect(thread.withLock { $0 } != caller)
        await supervisor.stop()
    }

    // The threads of the pool are few, and tests that block them could block one another: what ends the blocking comes from another thread.

    @Test("is cancelled even if it is never suspended", arguments: [false, true])
    func cancelled(isBoot: Bool) async throws {
        let sawCancellation = Mutex(false)
        let busy = Child("busy") { context -> Counter? in
            let pid = context.pid
            Thread.detachNewThread { pid.kill() }
            while !Task.isCancelled {}
            sawCancellation.withLock { $0 = true }
            throw CancellationError()
        }
        if isBoot {
            await #expect(throws: SupervisionError.self) { try await Supervisor("app") { busy }.start() }
        } else {
            let (supervisor, sessions) = try await start()
            await #expect(throws: AdministrationError.self) { _ = try await sessions.startChild(busy) }
            await supervisor.stop()
        }
        #expect(sawCancellation.withLock { $0 })
    }

    @Test("holds up no other child of its supervisor while it blocks its thread")
    func blocks() async throws {
        let (supervisor, sessions) = try await start()
        let other: ChildReference<Counter> = try #require(
            try await sessions.startChild(Child.inline("other") { _ in Counter() })
        )
        let first = try #require(other.pid)
        let second = Mutex<Pid?>(nil)
        let pid = try await sessions.startChild(
            Child("blocking") { _ in
                let isRestarted = DispatchSemaphore(value: 0)
                Thread.detachNewThread {
                    first.kill()
                    second.withLock { $0 = other.pid }
                    isRestarted.signal()
                }
                isRestarted.wait()
                return Counter()
            }
        )
        #expect(pid != nil)
        let restarted = try #require(second.withLock { $0 })
        #expect(restarted != first)
        #expect(restarted.isAlive)
        await supervisor.stop()
    }

    @Test("may be suspended at once, later or never, in a tree of each kind", arguments: [0, 1, 2])
    func suspensions(way: Int) async throws {
        @Sendable
        func suspends(_ number: Int) async {
            switch (way + number) % 3 {
            case 0: return
            case 1: await Task.yield()
            default: _ = await Counter().increment()
            }
        }
        let journal = Journal()
        let supervisor = Supervisor("app", strategy: .oneForAll, intensity: many) {
            for number in 0..<20 {
                Child("actor \(number)") { _ in
                    await suspends(number)
                    return Counter()
                }
                Child("worker \(number)") { _ in
                    await suspends(number)
                    return Puppet("worker \(number)", journal)
                }
                Supervisor("inner \(number)") {
                    Child("leaf") { _ in
                        await suspends(number)
                        return Counter()
                    }
                }
            }
        }
        try await supervisor.start()
        for number in 0..<20 { await journal.wait(for: "worker \(number) runs") }
        try supervisor.child("actor 7", as: Counter.self).pid?.kill()
        for number in 0..<20 { await journal.wait(for: "worker \(number) runs", count: 2) }
        try await LiveTree(supervisor).settled()
        #expect(supervisor.tree().children.allSatisfy { $0.pid?.isAlive == true })
        await supervisor.stop()
    }

    @Test("may start a child of its own supervisor's sibling, to any depth")
    func nested() async throws {
        let (supervisor, sessions) = try await start()
        @Sendable
        func child(_ depth: Int) -> Child {
            Child("session \(depth)", restart: .temporary) { _ in
                if depth < 2000 { _ = try await sessions.startChild(template, with: depth + 1) }
                return Counter()
            }
        }
        let template = ChildTemplate("leaf", restart: .temporary) { (_: Int, _) in Counter() }
        for depth in 0..<10 { _ = try await sessions.startChild(child(depth)) }
        #expect(try sessions.countChildren().active == 20)
        await supervisor.stop()
    }

    @Test("is fenced as any other when its incarnation is killed in it", arguments: [false, true])
    func killed(hasRun: Bool) async throws {
        let (supervisor, sessions) = try await start()
        let journal = Journal()
        await #expect(throws: AdministrationError.self) {
            try await sessions.startChild(
                hasRun
                    ? Child("session", restart: .temporary) { context in
                        context.pid.kill()
                        #expect(Task.isCancelled)
                        return Puppet("session", journal)
                    }
                    : Child("session", restart: .temporary) { context in
                        context.pid.kill()
                        #expect(Task.isCancelled)
                        return Counter()
                    }
            )
        }
        try await LiveTree(supervisor).settled()
        #expect(journal.entries.isEmpty)
        #expect(try sessions.countChildren().specifications == 0)
        await supervisor.stop()
    }
}
