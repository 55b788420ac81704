import AMQPPool
import ActorContracts
import BrokerSupport
import Foundation
import LocalBroker
import RPCActors
import RPCCaller
import RPCWire
import Supervision
import Synchronization
import Testing

/// A node in an operating system process of its own: see Tests/ActorStorm.
private final class NodeProcess: Sendable {
    struct NotReady: Error {}

    /// Its name when it was ready.
    let name: String
    private let process: Mutex<Process>

    static func start(_ url: String, _ folder: URL, _ arguments: [String] = []) async throws -> NodeProcess {
        let tests = try FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")
        let process = Process()
        process.executableURL = URL(filePath: tests).deletingLastPathComponent().appending(path: "ActorStorm")
        process.arguments = ["node", "--url", url, "--folder", folder.path, "--shards", "\(Bank.shards)"] + arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let handle = output.fileHandleForReading
        let line = await withCheckedContinuation { continuation in
            Thread.detachNewThread { continuation.resume(returning: handle.availableData) }
        }
        let words = String(decoding: line, as: UTF8.self).split(whereSeparator: \.isWhitespace)
        guard words.count == 2, words[0] == "ready" else {
            process.terminate()
            throw NotReady()
        }
        return NodeProcess(String(words[1]), process)
    }

    private init(_ name: String, _ process: Process) {
        self.name = name
        self.process = Mutex(process)
    }

    func signal(_ number: Int32) {
        process.withLock { if $0.isRunning { _ = kill($0.processIdentifier, number) } }
    }

    var isRunning: Bool { process.withLock { $0.isRunning } }

    func ended() async throws {
        try await eventually("the process ends") { process.withLock { !$0.isRunning } }
    }
}

@Suite("Nodes as processes", .serialized, .timeLimit(.minutes(5)))
struct NodeProcessTests {
    private func withFolder(_ body: (URL) async throws -> Void) async throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "actors-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        try await body(folder)
    }

    /// Adds one to each account, and checks that each says so many.
    private func round(_ expected: Int, _ client: RPCActorSystem) async throws -> [Balance] {
        var balances: [Balance] = []
        for key in 0..<12 {
            let id = ActorAddress.virtual("bank", "account", "\(key)", shards: Bank.shards)
            let account = try $Account<RPCActorSystem>.resolve(id: id, using: client)
            let balance = try await RemoteCall.with(timeout: .seconds(60)) { try await account.add(1) }
            #expect(balance.cents == expected)
            balances.append(balance)
        }
        return balances
    }

    private func grew(_ before: [Balance], _ after: [Balance]) {
        for (old, new) in zip(before, after) where old.node != new.node { #expect(new.number > old.number) }
    }

    @Test(
        "killed with SIGKILL: watchers are told, calls at it come back, and its virtual actors go on at the next, under greater numbers"
    )
    func killed() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await withFolder { folder in
                let client = try Bank.client(url)
                try await client.start()
                let first = try await NodeProcess.start(url, folder)
                let second = try await NodeProcess.start(url, folder)
                let before = try await round(1, client)
                let address = RPCActorSystem.on(first.name, "teller")
                let exit = Task { try await client.exited(address) }
                let teller = try $Teller<RPCActorSystem>.resolve(id: address, using: client)
                let call = Task { try await teller.sleep(milliseconds: 600_000) }
                try await Task.sleep(for: .milliseconds(1500))
                first.signal(SIGKILL)
                #expect(try await exit.value == .noConnection)
                let error = await #expect(throws: RPCActorError.self) { try await call.value }
                guard case .nodeDown? = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                let after = try await round(2, client)
                grew(before, after)
                #expect(Set(after.map(\.node)) == [second.name])
                second.signal(SIGTERM)
                try await second.ended()
                await client.stop()
            }
        }
    }

    @Test("stopped with SIGTERM: what it has is handed over, and its watchers are told that it came to its end")
    func stopped() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await withFolder { folder in
                let client = try Bank.client(url)
                try await client.start()
                let first = try await NodeProcess.start(url, folder)
                let second = try await NodeProcess.start(url, folder)
                let before = try await round(1, client)
                let exit = Task { try await client.exited(RPCActorSystem.on(first.name, "teller")) }
                try await Task.sleep(for: .milliseconds(500))
                first.signal(SIGTERM)
                let after = try await round(2, client)
                try await first.ended()
                #expect(try await exit.value == .normal)
                grew(before, after)
                second.signal(SIGTERM)
                try await second.ended()
                await client.stop()
            }
        }
    }

    @Test("frozen with SIGSTOP: the next takes over after the broker's heartbeats, and what wakes up writes nothing")
    func frozen() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await withFolder { folder in
                let client = try Bank.client(url)
                try await client.start()
                let first = try await NodeProcess.start(url, folder, ["--heartbeat", "1"])
                let second = try await NodeProcess.start(url, folder, ["--heartbeat", "1"])
                let before = try await round(1, client)
                first.signal(SIGSTOP)
                let after = try await round(2, client)
                grew(before, after)
                first.signal(SIGCONT)
                let late = try await round(3, client)
                grew(after, late)
                for node in [first, second] { node.signal(SIGTERM) }
                for node in [first, second] { try await node.ended() }
                await client.stop()
            }
        }
    }

    @Test("cut off: its virtual actors go on at the next, under greater numbers")
    func cutOff() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            try await withFolder { folder in
                let proxy = try await FaultProxy.start(to: broker)
                let client = try Bank.client(url)
                try await client.start()
                let first = try await NodeProcess.start(
                    proxy.url(virtualHost: virtualHost),
                    folder,
                    ["--heartbeat", "1"]
                )
                let second = try await NodeProcess.start(url, folder, ["--heartbeat", "1"])
                let before = try await round(1, client)
                await proxy.set(.halfOpen)
                let after = try await round(2, client)
                grew(before, after)
                await proxy.set(.healthy)
                await proxy.cut()
                for node in [first, second] { node.signal(SIGTERM) }
                for node in [first, second] { node.signal(SIGKILL) }
                await client.stop()
                await proxy.shutdown()
            }
        }
    }

    @Test("a request that ends its host is given up after the fourth, and told so; the others go on")
    func poison() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            try await withFolder { folder in
                let client = try Bank.client(url)
                try await client.start()
                var nodes: [NodeProcess] = []
                for _ in 0..<5 { nodes.append(try await NodeProcess.start(url, folder)) }
                let id = ActorAddress.virtual("bank", "account", "0", shards: Bank.shards)
                let account = try $Account<RPCActorSystem>.resolve(id: id, using: client)
                _ = try await account.add(0)
                let error = await #expect(throws: RPCActorError.self) {
                    try await RemoteCall.with(timeout: .seconds(60)) { try await account.crash() }
                }
                guard case .rpc(.remote(let failure))? = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                #expect(failure.code == .poison)
                let balance = try await account.add(1)
                #expect(balance.cents == 1)
                // One that was given back before it was begun is counted from then on.
                try await eventually("three or four have ended") { (1...2).contains(nodes.count { $0.isRunning }) }
                for node in nodes { node.signal(SIGTERM) }
                await client.stop()
            }
        }
    }

    @Test(
        "when the broker is killed and comes back, all go on: calls in work end honestly, and later ones are answered"
    )
    func broker() async throws {
        try await TestBroker.own { broker in
            try await withFolder { folder in
                let client = try Bank.client(broker.url)
                try await client.start()
                let nodes = [
                    try await NodeProcess.start(broker.url, folder), try await NodeProcess.start(broker.url, folder),
                ]
                let before = try await round(1, client)
                let exit = Task { try await client.exited(RPCActorSystem.on(nodes[0].name, "teller")) }
                try await Task.sleep(for: .milliseconds(500))
                try await broker.kill()
                try await broker.startAgain()
                let after = try await round(2, client)
                for (old, new) in zip(before, after) { #expect(new.number > old.number) }
                #expect(try await exit.value == .noConnection)
                for await now in client.members(of: "bank")
                where now.count == 2 && now.isDisjoint(with: nodes.map(\.name)) { break }
                for node in nodes { node.signal(SIGTERM) }
                for node in nodes { try await node.ended() }
                await client.stop()
            }
        }
    }
}
