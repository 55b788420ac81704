import AMQPPool
import AMQPTesting
import ArgumentParser
import Foundation
import Logging
import RPCActors

struct Storm: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Kills nodes and starts others while accounts are called."
    )

    @Option(help: "For how long.")
    var minutes = 10.0

    @Option(help: "How many nodes there are at any time.")
    var nodes = 3

    @Option(help: "How many accounts are called, each by one caller.")
    var keys = 40

    @Option(help: "How many shards they are in.")
    var shards = 16

    @Option(help: "Every how many seconds a node goes and another one comes.")
    var interval = 4.0

    @Flag(help: "Whether the shards' queues are quorum queues.")
    var quorum = false

    @Option(help: "Every how many seconds the broker is killed, and started again; 0: never.")
    var brokerInterval = 0.0

    @Option(help: "Append the result to this file, in Markdown.")
    var report: String?

    private struct Counts {
        var killed = 0
        var stopped = 0
        var brokers = 0
    }

    func run() async throws {
        let broker = try await LocalBroker.start(.init(startTimeout: .seconds(180), requestTimeout: .seconds(60)))
        let folder = FileManager.default.temporaryDirectory.appending(path: "actor-storm-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var living: [NodeProcess] = []
        let failure: (any Error)?
        var counts = Counts()
        let callers = Callers()
        let quiet = Logger(label: "storm") { _ in SwiftLogNoOpLogHandler() }
        let client = RPCActorSystem(service: "till", endpoints: [try Endpoint(url: broker.url)], logger: quiet)
        let begun = ContinuousClock.now
        do {
            for _ in 0..<nodes { living.append(try await start(broker.url, folder)) }
            try await client.start()
            try await client.waitUntilReady()
            try callers.start(client, keys: keys, shards: shards)
            let end = ContinuousClock.now + .seconds(minutes * 60)
            var nextOutage = ContinuousClock.now + .seconds(brokerInterval)
            while ContinuousClock.now < end {
                try await Task.sleep(for: .seconds(interval))
                if brokerInterval > 0, ContinuousClock.now > nextOutage {
                    counts.brokers += 1
                    try await loseBroker(broker, callers.outages)
                    nextOutage = .now + .seconds(brokerInterval)
                }
                let node = living.remove(at: Int.random(in: 0..<living.count))
                if Bool.random() {
                    counts.killed += 1
                    node.signal(SIGKILL)
                } else {
                    counts.stopped += 1
                    node.signal(SIGTERM)
                }
                living.append(try await start(broker.url, folder))
                await node.ended(within: .seconds(30))
                print(
                    "\(counts.killed) killed, \(counts.stopped) stopped, \(callers.result.calls) calls, \(callers.result.failed.count) failed, \(counts.brokers) brokers killed, \(callers.result.excused) failed for that"
                )
            }
            failure = nil
        } catch {
            failure = error
        }
        await callers.stop()
        let seconds = begun.duration(to: .now) / .seconds(1)
        await client.stop()
        for node in living { node.signal(SIGTERM) }
        for node in living { await node.ended(within: .seconds(30)) }
        await broker.shutdown()
        let works = try Work.read(folder)
        try? FileManager.default.removeItem(at: folder)
        if let failure { throw failure }
        try judge(callers.result, works, counts, seconds)
    }

    /// Kills the broker, starts it again, and lets everybody find it.
    private func loseBroker(_ broker: LocalBroker, _ outages: Outages) async throws {
        outages.begin()
        try await broker.kill()
        try await broker.startAgain()
        try await Task.sleep(for: .seconds(15))
        outages.end()
    }

    private func start(_ url: String, _ folder: URL) async throws -> NodeProcess {
        try await NodeProcess.start(url: url, folder: folder, shards: shards, quorum: quorum)
    }

    private func judge(_ result: Callers.Result, _ works: [Work], _ counts: Counts, _ seconds: Double) throws {
        let faults = Work.faults(works)
        let durations = result.durations.sorted()
        let (kind, round) = (quorum ? "quorum" : "classic", { (value: Double) in (value * 10).rounded() / 10 })
        let gap = faults.gaps.isEmpty ? 0 : faults.gaps[faults.gaps.count / 2]
        let lines = [
            "| queues | \(kind) |",
            "| time | \(Int(seconds)) s |",
            "| nodes | \(nodes) at any time; \(counts.killed) killed by SIGKILL, \(counts.stopped) stopped by SIGTERM |",
            "| calls | \(result.calls) of \(keys) callers on \(keys) accounts in \(shards) shards |",
            "| failed | \(result.failed.count) |",
            "| the broker | killed \(counts.brokers) times; \(result.excused) calls failed for that, each with an error that was true |",
            "| answered wrongly, or numbers that went back | \(result.wrong.count) |",
            "| slowest call | \(round((durations.last ?? 0) * 1000)) ms |",
            "| median call | \(round((durations.isEmpty ? 0 : durations[durations.count / 2]) * 1000)) ms |",
            "| activations | \(faults.activations) |",
            "| overlapping activations | \(faults.overlapping.count) |",
            "| numbers that did not grow | \(faults.notGrowing.count) |",
            "| from the last call on one node to the first on the next, median | \(round(gap)) ms |",
        ]
        let table = (["| | |", "|---|---|"] + lines).joined(separator: "\n")
        print(table)
        if let report {
            let file = URL(filePath: report)
            let before = (try? String(contentsOf: file, encoding: .utf8)) ?? ""
            try (before + "\n" + table + "\n").write(to: file, atomically: true, encoding: .utf8)
        }
        let found = result.failed + result.wrong + faults.overlapping + faults.notGrowing
        guard !found.isEmpty else { return print("Nothing was found.") }
        for line in found.prefix(20) { print(line) }
        throw ExitCode.failure
    }
}
