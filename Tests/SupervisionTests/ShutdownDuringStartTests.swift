import Logging
import ServiceLifecycle
import SupervisionTesting
import Synchronization
import Testing

@testable import Supervision

/// Guarantee 16: a shutdown overtakes a start that is under way, whoever asks and at whatever moment.
@Suite("A shutdown while a tree starts")
struct ShutdownDuringStartTests {
    private let quiet = Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }

    /// A tree whose second child waits in its start until it is cancelled, as one that waits for a broker at boot.
    private func waitingTree(_ journal: Journal, nested: Bool = false) -> Supervisor {
        @ChildrenBuilder
        func children() -> [Child] {
            Child("first") { context in
                context.pid.onExit { _ in journal.write("first ended") }
                return Counter()
            }
            Child("waiting") { context -> Counter? in
                journal.write("waits")
                await context.stopRequest.wait()
                throw CancellationError()
            }
        }
        if nested { return Supervisor("app") { Supervisor("inner", children: children) } }
        return Supervisor("app", children: children)
    }

    @Test("a graceful shutdown of the service group ends run() while a child starts", arguments: [false, true])
    func gracefulShutdown(nested: Bool) async throws {
        let journal = Journal()
        let supervisor = waitingTree(journal, nested: nested)
        let group = ServiceGroup(configuration: .init(services: [.init(service: supervisor)], logger: quiet))
        let run = Task { try await group.run() }
        await journal.wait(for: "waits")
        await group.triggerGracefulShutdown()
        try await run.value
        #expect(journal.entries == ["waits", "first ended"])
        #expect(supervisor.pid == nil)
    }

    @Test("a graceful shutdown before anything has started ends run() too")
    func shutDownAlready() async throws {
        let journal = Journal()
        let supervisor = waitingTree(journal)
        let first = Late(supervisor)
        let group = ServiceGroup(configuration: .init(services: [.init(service: first)], logger: quiet))
        let run = Task { try await group.run() }
        await group.triggerGracefulShutdown()
        try await run.value
        #expect(journal.entries.isEmpty)
        #expect(supervisor.pid == nil)
    }

    @Test("a service that starts a tree in its own run() is not held up by the start when its group is shut down")
    func startInService() async throws {
        let journal = Journal()
        let supervisor = waitingTree(journal)
        let group = ServiceGroup(
            configuration: .init(services: [.init(service: Starter(supervisor, journal))], logger: quiet)
        )
        let run = Task { try await group.run() }
        await journal.wait(for: "waits")
        await group.triggerGracefulShutdown()
        try await run.value
        #expect(journal.entries == ["waits", "first ended", "start() was given up"])
        #expect(supervisor.pid == nil)
    }

    @Test("stop(), and the cancellation of run(), end it while a child starts", arguments: [false, true])
    func stopAndCancel(cancels: Bool) async throws {
        let journal = Journal()
        let supervisor = waitingTree(journal)
        let run = Task { try await supervisor.run() }
        await journal.wait(for: "waits")
        if cancels { run.cancel() } else { await supervisor.stop() }
        try await run.value
        #expect(journal.entries == ["waits", "first ended"])
    }

    @Test("a start in a task that is cancelled already starts nothing")
    func cancelledBefore() async throws {
        let supervisor = Supervisor("app") { Child("counter") { _ in Counter() } }
        let start = Task {
            withUnsafeCurrentTask { $0?.cancel() }
            try await supervisor.start()
        }
        await #expect(throws: CancellationError.self) { try await start.value }
        #expect(supervisor.pid == nil)
    }

    @Test("a start that is cancelled at any moment either brings the tree up or takes it down")
    func cancelledAtAnyMoment() async throws {
        for round in 0..<300 {
            let supervisor = Supervisor("app") {
                for name in ["a", "b"] { Child(name) { _ in Counter() } }
            }
            let start = Task { try await supervisor.start() }
            for _ in 0..<(round % 30) { await Task.yield() }
            start.cancel()
            do {
                try await start.value
                #expect(supervisor.tree().children.allSatisfy { $0.status == .running })
                await supervisor.stop()
            } catch {
                #expect(error is CancellationError)
            }
            #expect(supervisor.pid == nil)
        }
    }

    @Test("a signal to a supervisor that is visible and has not begun to start ends it")
    func signalBeforeBoot() async throws {
        for signal in [Signal.kill, .exit(.shutdown()), .crash(TestFailure())] {
            let journal = Journal()
            let supervisor = waitingTree(journal)
            let process = SupervisorProcess(supervisor.specification, link: nil, environment: environment())
            process.process.send(signal)
            #expect(await !process.boot())
            _ = await process.process.ended()
            #expect(journal.entries.isEmpty)
        }
    }

    @Test("a signal to a child that is visible and has not begun to start ends it")
    func signalBeforeLaunch() async throws {
        for signal in [Signal.kill, .exit(.shutdown()), .crash(TestFailure())] {
            let journal = Journal()
            let owner = SupervisorProcess(Supervisor("app") {}.specification, link: nil, environment: environment())
            let specification = Child("worker") { _ in Puppet("worker", journal) }.specification
            guard case .actor(let body) = specification.kind else { return }
            let child = ChildProcess(
                specification,
                body,
                owner: owner,
                slot: 0,
                generation: 1,
                entry: 0,
                incarnation: 0,
                argument: nil
            )
            child.process.send(signal)
            #expect(!child.process.isAlive)
            child.launch()
            _ = await child.process.ended()
            #expect(journal.entries.isEmpty)
        }
    }

    private func environment() -> TreeEnvironment {
        TreeEnvironment(
            clock: SystemSupervisionClock.shared,
            logger: quiet,
            metrics: SupervisionMetrics(tree: "app")
        )
    }
}

/// Runs a supervisor when its group is shut down already.
private struct Late: Service {
    let supervisor: Supervisor

    init(_ supervisor: Supervisor) { self.supervisor = supervisor }

    func run() async throws {
        try await gracefulShutdown()
        try await supervisor.run()
    }
}

/// Starts a supervisor in its own `run()`.
private struct Starter: Service {
    let supervisor: Supervisor
    let journal: Journal

    init(_ supervisor: Supervisor, _ journal: Journal) { (self.supervisor, self.journal) = (supervisor, journal) }

    func run() async throws {
        do { try await supervisor.start() } catch is CancellationError { journal.write("start() was given up") }
    }
}
