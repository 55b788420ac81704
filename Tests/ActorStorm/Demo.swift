import AMQPPool
import AMQPTesting
import ActorContracts
import ArgumentParser
import Foundation
import Logging
import RPCActors

struct Demo: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "Three nodes, a counter for each of 20 keys, and one node that is killed: what was expected, and what was seen."
    )

    private static let keys = 20
    private static let shards = 64

    func run() async throws {
        say("Starting a private RabbitMQ...")
        let broker = try await LocalBroker.start(.init(startTimeout: .seconds(180)))
        let folder = FileManager.default.temporaryDirectory.appending(path: "actor-demo-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        var differences = 0
        var nodes: [NodeProcess] = []
        let failure: (any Error)?
        do {
            differences = try await play(broker, folder, &nodes)
            failure = nil
        } catch {
            failure = error
        }
        for node in nodes { node.signal(SIGTERM) }
        for node in nodes { await node.ended(within: .seconds(30)) }
        await broker.shutdown()
        try? FileManager.default.removeItem(at: folder)
        if let failure { throw failure }
        guard differences == 0 else {
            say("\n\(differences) observations differ from what was expected.")
            throw ExitCode.failure
        }
        say("\nEverything was as expected.")
    }

    private func play(_ broker: LocalBroker, _ folder: URL, _ nodes: inout [NodeProcess]) async throws -> Int {
        say("Starting three nodes of the service \"bank\", each a process of its own...")
        for _ in 0..<3 {
            nodes.append(
                try await NodeProcess.start(url: broker.url, folder: folder, shards: Self.shards, quorum: false)
            )
        }
        let quiet = Logger(label: "demo") { _ in SwiftLogNoOpLogHandler() }
        let client = RPCActorSystem(service: "till", endpoints: [try Endpoint(url: broker.url)], logger: quiet)
        try await client.start()
        try await client.waitUntilReady()
        var differences = 0
        func observe(_ what: String, _ expected: String, _ seen: String) {
            say(
                "  \(what)\n    expected: \(expected)\n    seen:     \(seen)\(expected == seen ? "" : "   <-- differs")"
            )
            if expected != seen { differences += 1 }
        }
        func round(_ number: Int, _ ordinal: String) async throws -> [Balance] {
            var balances: [Balance] = []
            for key in 0..<Self.keys {
                let id = ActorAddress.virtual("bank", "account", "key-\(key)", shards: Self.shards)
                let account = try $Account<RPCActorSystem>.resolve(id: id, using: client)
                balances.append(try await account.add(1))
            }
            let counts = Set(balances.map(\.cents)).sorted().map(String.init).joined(separator: ", ")
            observe(
                "Each of \(Self.keys) counters is called, for the \(ordinal) time",
                "all say \(number)",
                "all say \(counts)"
            )
            return balances
        }

        say("\n1. Counters are made by their first call, on whichever node their shard is.")
        let first = try await round(1, "first")
        let members = try await settled(client, count: 3)
        observe("The nodes of the service, asked of the broker", "3 nodes", "\(members.count) nodes")
        say("    They are on: \(spread(first))")

        say(
            "\n2. One node is killed with SIGKILL. The broker tells who watches it, and gives its shards to the others."
        )
        let victim = nodes.removeFirst()
        let exits = members.map { node in Task { (node, try await client.exited(RPCActorSystem.on(node, "teller"))) } }
        try await Task.sleep(for: .milliseconds(500))
        let killed = ContinuousClock.now
        victim.signal(SIGKILL)
        let second = try await round(2, "second")
        say(
            "    It took \(killed.duration(to: .now).formatted(.units(allowed: [.milliseconds]))) from the kill to the last of them."
        )
        let after = try await settled(client, count: 2)
        observe("The nodes of the service", "2 nodes", "\(after.count) nodes")
        let gone = members.subtracting(after).first ?? "none"
        for task in exits {
            let (node, exit) = try await withTimeout(task, node: gone)
            if node == gone { observe("What a watcher of its teller is told", "no connection", "\(exit)") }
        }
        say("    They are on: \(spread(second))")
        let moved = zip(first, second).filter { $0.node != $1.node }
        let grown = moved.allSatisfy { $0.number < $1.number }
        observe("Those that moved have a greater fence number", "yes", grown ? "yes" : "no")

        say("\n3. A node comes, and gets its share, handed over while counters are called.")
        nodes.append(try await NodeProcess.start(url: broker.url, folder: folder, shards: Self.shards, quorum: false))
        _ = try await settled(client, count: 3)
        let third = try await round(3, "third")
        say("    They are on: \(spread(third))")
        let overlapping = Work.faults(try Work.read(folder)).overlapping.count
        observe("Activations of one counter that overlapped", "0", "\(overlapping)")
        await client.stop()
        return differences
    }

    /// Waits until as many nodes are known.
    private func settled(_ client: RPCActorSystem, count: Int) async throws -> Set<String> {
        for await nodes in client.members(of: "bank") where nodes.count == count { return nodes }
        return []
    }

    private func withTimeout(
        _ task: Task<(String, RemoteExit), any Error>,
        node gone: String
    ) async throws -> (String, RemoteExit) {
        let timer = Task {
            try await Task.sleep(for: .seconds(5))
            task.cancel()
        }
        defer { timer.cancel() }
        do {
            return try await task.value
        } catch is CancellationError {
            // Those that live.
            return ("", .normal)
        }
    }

    private func spread(_ balances: [Balance]) -> String {
        Dictionary(grouping: balances, by: \.node).map { "\($0.value.count) on \($0.key)" }.sorted().joined(
            separator: ", "
        )
    }

    private func say(_ text: String) { print(text) }
}
