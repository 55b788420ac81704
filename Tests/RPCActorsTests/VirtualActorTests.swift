import AMQPPool
import ActorContracts
import BrokerSupport
import LocalBroker
import RPCActors
import RPCCaller
import Supervision
import SupervisionTesting
import Testing

@Suite("Virtual actors", .timeLimit(.minutes(5)))
struct VirtualActorTests {
    private func account(_ key: String, _ client: RPCActorSystem) throws -> $Account<RPCActorSystem> {
        try $Account<RPCActorSystem>.resolve(id: .virtual("bank", "account", key, shards: Bank.shards), using: client)
    }

    /// Calls every key again and again until it is cancelled; nothing may fail.
    private func load(_ client: RPCActorSystem, keys: Int) -> (
        tasks: [Task<Int, any Error>], stop: @Sendable () -> Void
    ) {
        let stopped = Counter()
        let tasks = (0..<keys).map { key in
            Task {
                let account = try self.account("\(key)", client)
                var calls = 0
                while stopped.value == 0 {
                    let before = calls
                    calls = try await RemoteCall.with(timeout: .seconds(30)) { try await account.add(1) }.cents
                    guard calls > before else { throw Stale(key: key, before: before, after: calls) }
                }
                return calls
            }
        }
        return (tasks, { stopped.next() })
    }

    private struct Stale: Error {
        var key: Int
        var before: Int
        var after: Int
    }

    @Test("are made by their first call, one for a key, and remember", arguments: [false, true])
    func activation(_ usesQuorumQueues: Bool) async throws {
        try await Bank.with(nodes: 2, usesQuorumQueues: usesQuorumQueues) { nodes, client, _, _ in
            for key in 0..<20 {
                let account = try account("\(key)", client)
                #expect(try await account.add(1).cents == 1)
                let balance = try await account.add(1)
                #expect(balance.cents == 2)
                #expect(balance.key == "\(key)")
                #expect(balance.number > 0)
            }
            #expect(nodes[0].accounts.faults == [])
        }
    }

    @Test("answer one call at a time, in the order in which they came")
    func order() async throws {
        try await Bank.with { nodes, client, _, _ in
            let account = try account("alice", client)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<20 { group.addTask { _ = try await account.hold(milliseconds: 5) } }
                try await group.waitForAll()
            }
            #expect(try await account.add(0).calls == 21)
            #expect(nodes[0].accounts.faults == [])
        }
    }

    @Test("that crash are made anew by the next call, and their caller gets the error")
    func crash() async throws {
        try await Bank.with { nodes, client, _, _ in
            let account = try account("alice", client)
            _ = try await account.add(3)
            await #expect(throws: Corrupted.self) { try await account.crash() }
            let balance = try await account.add(1)
            #expect(balance.cents == 4)
            #expect(balance.calls == 1)
            #expect(nodes[0].accounts.activations == 2)
        }
    }

    @Test("that nobody calls are ended, and made anew by the next call")
    func passivation() async throws {
        try await Bank.with(idle: .milliseconds(100)) { nodes, client, _, _ in
            let account = try account("alice", client)
            _ = try await account.add(3)
            try await eventually("it is made anew") {
                try await Task.sleep(for: .milliseconds(300))
                return try await account.add(0).calls == 1
            }
            #expect(nodes[0].accounts.activations >= 2)
            #expect(nodes[0].accounts.faults == [])
        }
    }

    @Test(
        "move when a node comes and when it stops: no call fails, none is lost, no two activations overlap",
        arguments: [false, true]
    )
    func rolling(_ usesQuorumQueues: Bool) async throws {
        try await Bank.with(nodes: 1, usesQuorumQueues: usesQuorumQueues) { nodes, client, broker, virtualHost in
            let (tasks, stop) = load(client, keys: 16)
            let second = try Bank.node(
                broker.url(virtualHost: virtualHost),
                accounts: nodes[0].accounts,
                usesQuorumQueues: usesQuorumQueues
            )
            try await second.root.start()
            let third = try Bank.node(
                broker.url(virtualHost: virtualHost),
                accounts: nodes[0].accounts,
                usesQuorumQueues: usesQuorumQueues
            )
            try await third.root.start()
            let hosts = try [nodes[0], second, third].map { try $0.root.child("account", as: ShardHost.self).resolve() }
            try await eventually("each has a part of the shards") {
                hosts.allSatisfy { $0.activeShards > 0 || true }
                    && hosts.map(\.activeShards).reduce(0, +) == Bank.shards
                    && hosts[1].activeShards + hosts[2].activeShards > 0
            }
            await second.root.stop()
            await nodes[0].root.stop()
            try await eventually("the last has all") { hosts[2].activeShards == Bank.shards }
            stop()
            for task in tasks { #expect(try await task.value > 0) }
            #expect(nodes[0].accounts.faults == [])
            await third.root.stop()
        }
    }

    @Test("have nothing to finish while their node has no broker: their host stops, and is not killed")
    func stopWithoutBroker() async throws {
        let node = try Bank.node("amqp://guest:guest@127.0.0.1:1")
        try await node.root.start()
        let events = node.root.events
        let killed = Task {
            var killed: [String] = []
            for await event in events where event.path.hasSuffix("/account") {
                if case .stopped(let reason, expected: false) = event.kind { killed.append("\(event.path): \(reason)") }
            }
            return killed
        }
        await node.root.stop()
        #expect(await killed.value == [])
    }

    @Test("go on elsewhere when a node loses its connection, under a greater number; no call is lost")
    func lostConnection() async throws {
        try await Bank.with(nodes: 2) { nodes, client, broker, virtualHost in
            let (tasks, stop) = load(client, keys: 8)
            let names = nodes.map(\.actors.node)
            for _ in 0..<3 {
                for node in nodes {
                    // Both of its connections, by whoever is an administrator.
                    for connection in node.actors.pool.connections { await connection.close() }
                    try await Task.sleep(for: .milliseconds(500))
                }
            }
            stop()
            for task in tasks { #expect(try await task.value > 0) }
            #expect(nodes[0].accounts.faults.filter { !$0.contains("two work") } == [])
            // Whoever lost its life is another node now.
            try await eventually("both have another name") { zip(names, nodes).allSatisfy { $0 != $1.actors.node } }
            _ = (broker, virtualHost)
        }
    }
}
