import ArgumentParser
import BenchmarkContracts
import BenchmarkSupport
import Distributed
import Foundation
import RPCActors
import RPCCaller
import Supervision

distributed actor Counter: Counting {
    typealias ActorSystem = RPCActorSystem
    private var count = 0

    distributed func add(_ count: Int) -> Count {
        self.count += count
        return Count(count: self.count, process: getpid())
    }
}

enum Kind {
    static let name = "counter"
    static let shards = 64
}

/// A node with virtual actors, until its standard input ends or it is killed.
struct ActorNode: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "A node with virtual actors: see actor-times.")

    @OptionGroup
    var connecting: Connecting

    func run() async throws {
        let actors = try connecting.actors(connecting.service) {
            Export(Counter.self, as: $Counting<RPCActorSystem>.self)
        }
        let root = Supervisor("node", strategy: .restForOne, logger: connecting.logger) {
            actors.supervisor
            Child.virtual(Kind.name, shards: Kind.shards, in: actors) { _ in Counter(actorSystem: actors) }
        }
        try await root.start()
        try await actors.waitUntilReady(timeout: .seconds(60))
        say("ready")
        await Input.ended()
        await root.stop()
    }
}

/// How long virtual actors take: to be made, to be made again elsewhere when their node is killed, and to be handed over.
struct ActorTimes: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Virtual actors made in a second, fail-over and hand-over; prints one line of JSON.",
        discussion: "Starts its nodes itself, as processes of their own."
    )

    @OptionGroup
    var connecting: Connecting

    @Option(help: "How long to make actors, and as long to call those that are there.")
    var seconds = 3.0

    @Option(help: "How many nodes are killed, and how many stopped.")
    var rounds = 10

    func run() async throws {
        let actors = try connecting.actors("bench")
        try await actors.start()
        try await actors.waitUntilReady()
        var nodes = [try NodeProcess(connecting)]
        _ = try await nodes[0].ready()
        let (made, calls) = (try await rate(actors, isNew: true), try await rate(actors, isNew: false))
        nodes.append(try NodeProcess(connecting))
        _ = try await nodes[1].ready()
        var (failovers, handovers): ([Double], [Double]) = ([], [])
        for round in 0..<2 * rounds {
            // Shares move for a moment when a node has come.
            try await Task.sleep(for: .seconds(2))
            let (key, owner) = try await keyed(actors, round, among: nodes)
            let isKilled = round.isMultiple(of: 2)
            let gap = try await self.gap(actors, key) {
                if isKilled { owner.kill() } else { owner.stop() }
            }
            if isKilled { failovers.append(gap) } else { handovers.append(gap) }
            nodes.removeAll { $0 === owner }
            let next = try NodeProcess(connecting)
            nodes.append(next)
            _ = try await next.ready()
        }
        for node in nodes { node.stop() }
        await actors.stop()
        var line = JSONLine()
        line.add("program", "ours")
        line.add("side", "virtual actors")
        line.add("activations_per_s", made)
        line.add("calls_per_s", calls)
        line.add("failover_ms", failovers.sorted()[failovers.count / 2])
        line.add("failover_max_ms", failovers.max() ?? 0)
        line.add("handover_ms", handovers.sorted()[handovers.count / 2])
        line.add("handover_max_ms", handovers.max() ?? 0)
        line.add("errors", 0)
        line.print()
    }

    private func counter(_ actors: RPCActorSystem, _ key: String) throws -> $Counting<RPCActorSystem> {
        let id = ActorAddress.virtual(connecting.service, Kind.name, key, shards: Kind.shards)
        return try $Counting<RPCActorSystem>.resolve(id: id, using: actors)
    }

    /// Calls a second, 64 at once: each of a key that nobody has called, or all of keys that are there.
    private func rate(_ actors: RPCActorSystem, isNew: Bool) async throws -> Double {
        let begin = ContinuousClock.now
        let end = begin + .seconds(seconds)
        let count = try await withThrowingTaskGroup(of: Int.self) { group in
            for caller in 0..<64 {
                group.addTask {
                    var calls = 0
                    while ContinuousClock.now < end {
                        let key = isNew ? "new-\(caller)-\(calls)" : "new-\(caller)-0"
                        _ = try await counter(actors, key).add(1)
                        calls += 1
                    }
                    return calls
                }
            }
            return try await group.reduce(0, +)
        }
        return Double(count) / begin.duration(to: .now).inSeconds
    }

    /// A key that is on one of the nodes, and the node.
    private func keyed(
        _ actors: RPCActorSystem,
        _ round: Int,
        among nodes: [NodeProcess]
    ) async throws -> (String, NodeProcess) {
        for attempt in 0..<1000 {
            let key = "key-\(round)-\(attempt)"
            let count = try await counter(actors, key).add(1)
            if let node = nodes.first(where: { $0.pid == count.process }) { return (key, node) }
        }
        throw ValidationError("no key is on the nodes that were started")
    }

    /// Calls a key without a pause, does that to its node, and returns the longest time without an answer around it, in milliseconds.
    private func gap(_ actors: RPCActorSystem, _ key: String, _ body: () -> Void) async throws -> Double {
        let counter = try counter(actors, key)
        let before = try await counter.add(1).process
        var last = ContinuousClock.now
        body()
        var longest = Duration.zero
        var (isElsewhere, after) = (false, 0)
        while after < 20 {
            let count = try await RemoteCall.with(timeout: .seconds(60)) { try await counter.add(1) }
            let now = ContinuousClock.now
            longest = max(longest, last.duration(to: now))
            last = now
            isElsewhere = isElsewhere || count.process != before
            if isElsewhere { after += 1 }
        }
        return longest.inSeconds * 1000
    }
}

/// A node in a process of its own.
private final class NodeProcess: Sendable {
    private let process: Process
    private let input = Pipe()
    private let output = Pipe()

    init(_ connecting: Connecting) throws {
        process = Process()
        process.executableURL = Bundle.main.executableURL
        process.arguments = ["actor-node", "--url", connecting.url, "--service", connecting.service]
        process.standardInput = input
        process.standardOutput = output
        try process.run()
    }

    var pid: Int32 { process.processIdentifier }

    func ready() async throws -> Bool {
        let output = output.fileHandleForReading
        let line = await withCheckedContinuation { continuation in
            Thread.detachNewThread { continuation.resume(returning: output.availableData) }
        }
        guard line.starts(with: Data("ready".utf8)) else { throw ValidationError("a node did not become ready") }
        return true
    }

    func kill() { _ = Foundation.kill(pid, SIGKILL) }
    func stop() { try? input.fileHandleForWriting.close() }
}
