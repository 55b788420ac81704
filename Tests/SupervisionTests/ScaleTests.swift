import Foundation
import Logging
import Supervision
import SupervisionTesting
import Synchronization
import TestTurns
import Testing

private let quiet = Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }

private let isSanitized = ProcessInfo.processInfo.environment["SUPERVISION_SANITIZER"] != nil

@Suite("Large trees")
struct ScaleTests {
    @Test(
        "a million temporary children that have ended leave nothing behind",
        .disabled(if: isSanitized, "a sanitizer keeps memory of its own for each of them"),
        .exitTest
    )
    func memory() async {
        await #expect(processExitsWith: .success) {
            let supervisor = Supervisor("app", logger: Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }) {
                DynamicSupervisor("many")
            }
            try await supervisor.start()
            let many = try supervisor.dynamicSupervisor("many")
            let child = Child("x", restart: .temporary) { _ in Counter() }
            func churn(_ count: Int) async throws {
                for _ in 0..<count { try await many.startChild(child)?.kill() }
                try await LiveTree(supervisor).settled()
            }
            try await churn(100_000)
            let before = residentPages()
            try await churn(1_000_000)
            let grown = residentPages() - before
            #expect(try many.countChildren().specifications == 0)
            // 2,048 pages of 4 kB: eight bytes a child would be more.
            #expect(grown < 2048, "grew by \(grown) pages")
            await supervisor.stop()
        }
    }

    @Test("a tree of 2,000 levels starts, prints, restarts and stops without recursion")
    func deep() async throws {
        var level = Supervisor("leaf") { Child("counter") { _ in Counter() } }
        for index in 0..<2000 {
            let inner = level
            level = Supervisor("\(index)", logger: quiet) { inner }
        }
        try await level.start()
        #expect(level.tree().nodes.count == 2002)
        try LiveTree(level).end(level.tree().nodes[1].path)
        try await LiveTree(level).settled()
        #expect(level.tree().nodes.count == 2002)
        await level.stop()
    }

    @Test("10,000 static children start, are found, restarted together and stopped")
    func wide() async throws {
        let supervisor = Supervisor("app", strategy: .oneForAll, logger: quiet) {
            for index in 0..<10_000 { Child("\(index)") { _ in Counter() } }
        }
        try await supervisor.start()
        let last = try supervisor.child("9999", as: Counter.self)
        #expect(try await last.call { $0.increment() } == 1)
        let pid = last.pid
        try LiveTree(supervisor).end("app/0")
        try await LiveTree(supervisor).settled()
        #expect(last.pid != nil)
        #expect(last.pid != pid)
        await supervisor.stop()
    }

    @Test("3,000 static workers stop one after another, in reverse order, and wait for nothing but each other")
    func orderedStop() async throws {
        let order = Mutex<[Int]>([])
        // Nobody turns it: a stop that waited for any time of ours would not end.
        let clock = ManualClock()
        let supervisor = Supervisor("app", logger: quiet, clock: clock) {
            for index in 0..<3000 {
                Child("\(index)") { context in
                    context.pid.onExit { _ in order.withLock { $0.append(index) } }
                    return Patient(context)
                }
            }
        }
        try await supervisor.start()
        await supervisor.stop()
        #expect(order.withLock { $0 } == (0..<3000).reversed())
        #expect(clock.pendingTimers == 0)
    }

    @Test(
        "stopping one after another costs each of many static children what it costs each of few",
        .disabled(if: isSanitized, "a sanitizer's own cost grows in its own way"),
        .exitTest,
        arguments: [false, true]
    )
    func costOfOrderedStop(isWorker: Bool) async {
        // In an OS process of its own, whose processor time is that of this stop and of nothing else.
        await #expect(processExitsWith: .success) { [isWorker] in
            func cost(_ count: Int) async throws -> Duration {
                let supervisor = Supervisor("app", logger: Logger(label: "quiet") { _ in SwiftLogNoOpLogHandler() }) {
                    for index in 0..<count {
                        if isWorker {
                            Child("\(index)") { context in Patient(context) }
                        } else {
                            Child("\(index)") { _ in Counter() }
                        }
                    }
                }
                try await supervisor.start()
                let before = processorTime()
                await supervisor.stop()
                return processorTime() - before
            }
            _ = try await cost(1000)
            var few = Duration.seconds(3600)
            for _ in 1...3 { few = min(few, try await cost(500)) }
            let many = try await cost(16_000)
            // 32 times as many: what is quadratic would cost a thousand times as much.
            #expect(many < few * 200, "\(few) for 500 children, \(many) for 16,000")
        }
    }

    @Test("1,000 children that are killed at once are all started again")
    func killedAtOnce() async throws {
        let supervisor = Supervisor("app", intensity: .init(1000, within: .seconds(3600)), logger: quiet) {
            for index in 0..<1000 { Child("\(index)") { _ in Counter() } }
        }
        try await supervisor.start()
        let before = LiveTree(supervisor).processes.filter { !$0.isSupervisor }
        for process in before { process.pid.kill() }
        try await LiveTree(supervisor).settled()
        let after = LiveTree(supervisor).processes.filter { !$0.isSupervisor }
        #expect(after.count == 1000)
        #expect(Set(after.map(\.pid)).isDisjoint(with: before.map(\.pid)))
        await supervisor.stop()
    }
}

/// Waits to be asked to stop.
private actor Patient: Worker {
    private let stop: StopRequest

    init(_ context: ChildContext) { stop = context.stopRequest }

    func run() async { await stop.wait() }
}

/// The pages of memory that this OS process has.
private func residentPages() -> Int {
    let text = (try? String(contentsOfFile: "/proc/self/statm", encoding: .utf8)) ?? ""
    return text.split(separator: " ").dropFirst().first.flatMap { Int($0) } ?? 0
}

/// What this OS process has had of the processors.
private func processorTime() -> Duration {
    .microseconds(Int(clock()))
}
