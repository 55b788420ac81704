import AMQPPool
import ActorContracts
import BrokerSupport
import ChaosSupport
import Distributed
import Foundation
import LocalBroker
import Logging
import RPCActors
import RPCCaller
import RPCWire
import Supervision
import Testing

@testable import ActorStorm

/// Nodes with distributed actors, each an operating system process, and what may happen to them: the failure table of `RPCActors`.
///
/// The quick rows are played by every run of the tests, the others by `scripts/kill-matrix`.
@Suite("Nodes with distributed actors", .serialized, .timeLimit(.minutes(30)))
struct ActorNodeTests {
    /// What happens, what has to be seen then, and how it is played. What it returns was measured.
    struct Row: Sendable, CustomTestStringConvertible {
        let what: String
        let isQuick: Bool
        let play: @Sendable (ActorStage) async throws -> String

        var testDescription: String { what }
    }

    private static var rows: [Row] {
        let only = ProcessInfo.processInfo.environment["ACTOR_ROW"] ?? ""
        return ActorRows.all.filter { (Matrix.folder != nil || $0.isQuick) && (only.isEmpty || $0.what.contains(only)) }
    }

    @Test("go on as the failure table says", arguments: rows)
    func row(_ row: Row) async throws {
        let begun = ContinuousClock.now
        do {
            let seen = try await ActorStage.with(row.play)
            try Self.note(row.what, seen, begun.duration(to: .now))
        } catch {
            try Self.note(row.what, "**\(error)**", begun.duration(to: .now))
            Issue.record("\(row.what): \(error)")
        }
    }

    /// A line of the table.
    private static func note(_ what: String, _ seen: String, _ time: Duration) throws {
        guard let folder = Matrix.folder else { return }
        let file = URL(filePath: folder).appending(path: "actors.md")
        let before =
            (try? String(contentsOf: file, encoding: .utf8))
            ?? "| what happens | what was seen | time |\n|---|---|---|\n"
        let seconds = (time / .milliseconds(100)).rounded() / 10
        try (before + "| \(what) | \(seen) | \(seconds) s |\n").write(to: file, atomically: true, encoding: .utf8)
    }
}

/// What was not as it has to be.
struct ActorFault: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}

/// Nodes, their store, and a client.
final class ActorStage: Sendable {
    static let shards = 8
    static let accounts = 12
    static let quiet = Logger(label: "matrix") { _ in SwiftLogNoOpLogHandler() }

    let folder: URL
    private let nodes = Shared<[NodeProcess]>([])
    private let clients = Shared<[RPCActorSystem]>([])
    private let last = Shared<[Balance]>([])
    /// Nodes that had to be killed in the end.
    private let lasting = Shared<[String]>([])

    private init(_ folder: URL) { self.folder = folder }

    static func with(_ body: (ActorStage) async throws -> String) async throws -> String {
        let folder = FileManager.default.temporaryDirectory.appending(path: "actors-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let stage = ActorStage(folder)
        let result: Result<String, any Error>
        do {
            var seen = try await body(stage)
            // Whatever happened, each account was worked on by one node at a time, under numbers that grow.
            await stage.end()
            let faults = Work.faults(try Work.read(folder))
            if let node = stage.lasting.with({ $0 }).first {
                throw ActorFault("the node \(node) did not end within 30 s of SIGTERM")
            }
            if let fault = (faults.overlapping + faults.notGrowing).first { throw ActorFault(fault) }
            seen += "; \(faults.activations) activations, none overlapping"
            result = .success(seen)
        } catch {
            result = .failure(error)
            await stage.end()
        }
        return try result.get()
    }

    /// Starts a node, and returns when it is ready.
    func node(_ url: String, heartbeat: Int = 10, quorum: Bool = false) async throws -> NodeProcess {
        let node = try await NodeProcess.start(
            url: url,
            folder: folder,
            shards: Self.shards,
            quorum: quorum,
            heartbeat: heartbeat,
            executable: try NodeProcess.beside("ActorStorm")
        )
        nodes.with { $0.append(node) }
        return node
    }

    func client(_ urls: String...) async throws -> RPCActorSystem {
        try await client(urls)
    }

    func client(_ urls: [String], heartbeat: Int = 10) async throws -> RPCActorSystem {
        var configuration = RPCActorConfiguration(endpoints: try urls.map { try Endpoint(url: $0) })
        configuration.pool.connection.heartbeat = .seconds(heartbeat)
        configuration.pool.backoff = Backoff(minimum: .milliseconds(10), maximum: .milliseconds(500), jitter: 1)
        let client = RPCActorSystem(
            service: "till",
            configuration: configuration,
            errors: [Insufficient.self, Broken.self],
            logger: Self.quiet
        )
        clients.with { $0.append(client) }
        try await client.start()
        try await client.waitUntilReady(timeout: .seconds(90))
        return client
    }

    func end() async {
        for node in nodes.with({ $0 }) {
            node.signal(SIGCONT)
            node.signal(SIGTERM)
        }
        for node in nodes.with({ $0 }) where await !node.ended(within: .seconds(30)) {
            lasting.with { $0.append(node.name) }
        }
        for client in clients.with({ $0 }) { await client.stop() }
        nodes.with { $0 = [] }
        clients.with { $0 = [] }
    }

    /// Adds one to each account: each has one more than the last time, and one that has moved has a greater number.
    @discardableResult
    func round(_ client: RPCActorSystem) async throws -> [Balance] {
        var balances: [Balance] = []
        let before = last.with { $0 }
        for key in 0..<Self.accounts {
            let id = ActorAddress.virtual("bank", "account", "\(key)", shards: Self.shards)
            let account = try $Account<RPCActorSystem>.resolve(id: id, using: client)
            let balance = try await RemoteCall.with(timeout: .seconds(60), retry: .idempotent()) {
                try await account.add(1)
            }
            if let old = before.first(where: { $0.key == balance.key }) {
                guard balance.cents == old.cents + 1 else {
                    throw ActorFault("the account \(key) has \(balance.cents) after \(old.cents)")
                }
                let isSame = balance.number == old.number && balance.node == old.node
                guard isSame || balance.number > old.number else {
                    throw ActorFault("the account \(key) went from \(old) to \(balance)")
                }
            }
            balances.append(balance)
        }
        last.with { [balances] in $0 = balances }
        return balances
    }

    func teller(_ client: RPCActorSystem, on node: NodeProcess? = nil) throws -> $Teller<RPCActorSystem> {
        try $Teller<RPCActorSystem>.resolve(
            id: node.map { RPCActorSystem.on($0.name, "teller") } ?? .service("bank", "teller"),
            using: client
        )
    }

    /// Waits for the end of a node's teller, from when it is watched for certain.
    func watch(_ node: NodeProcess, _ client: RPCActorSystem) async throws -> Task<
        (RemoteExit, ContinuousClock.Instant), any Error
    > {
        let task = Task {
            let exit = try await client.exited(RPCActorSystem.on(node.name, "teller"))
            return (exit, ContinuousClock.now)
        }
        // An end that comes earlier is told too, as "no process".
        try await Task.sleep(for: .seconds(1))
        return task
    }

    /// Calls at a node that do not end by themselves.
    func calls(_ count: Int, at node: NodeProcess, _ client: RPCActorSystem) async throws -> [Task<String, Never>] {
        let teller = try teller(client, on: node)
        let calls = (0..<count).map { _ in
            Task {
                do {
                    _ = try await RemoteCall.with(timeout: .seconds(90)) {
                        try await teller.sleep(milliseconds: 600_000)
                    }
                    return "answered"
                } catch RPCActorError.nodeDown { return "node down" } catch { return "\(error)" }
            }
        }
        try await Task.sleep(for: .milliseconds(500))
        return calls
    }

    func members(
        _ client: RPCActorSystem,
        _ isAsExpected: @escaping @Sendable (Set<String>) -> Bool
    ) async throws {
        try await withThrowingTaskGroup(of: Void.self) { group in
            defer { group.cancelAll() }
            group.addTask {
                for await nodes in client.members(of: "bank") where isAsExpected(nodes) { return }
                try Task.checkCancellation()
            }
            group.addTask {
                try await Task.sleep(for: .seconds(60))
                throw ActorFault("the members are not as expected")
            }
            try await group.next()
        }
    }

    static func milliseconds(_ since: ContinuousClock.Instant, _ until: ContinuousClock.Instant = .now) -> String {
        let milliseconds = since.duration(to: until) / .milliseconds(1)
        return milliseconds < 10_000 ? "\(Int(milliseconds)) ms" : "\((milliseconds / 100).rounded() / 10) s"
    }
}

/// The rows.
private enum ActorRows {
    typealias Row = ActorNodeTests.Row

    static var all: [Row] {
        [
            actorThrows, actorCrashes, actorKilled, intensity, killed, stopped, frozen, cablePulled, lifeClosed,
            brokerKilled,
            watcherCutOff, poison, servicePoison, replyQueue, clusterNode,
        ]
    }

    private static func require(_ condition: Bool, _ text: @autoclosure () -> String) throws {
        guard condition else { throw ActorFault(text()) }
    }

    /// What all calls ended with.
    private static func ends(_ calls: [Task<String, Never>]) async -> Set<String> {
        var ends: Set<String> = []
        for call in calls { ends.insert(await call.value) }
        return ends
    }

    static let actorThrows = Row(what: "an actor's method throws", isQuick: false) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            _ = try await stage.node(url)
            let teller = try stage.teller(client)
            let before = try await teller.incarnation()
            do {
                _ = try await teller.transfer(Transfer(cents: 101), note: nil)
                throw ActorFault("nothing was thrown")
            } catch let error as Insufficient { try require(error.missing == 1, "\(error)") }
            try require(try await teller.incarnation() == before, "it is another incarnation")
            return "its caller gets the error; the actor goes on"
        }
    }

    static let actorCrashes = Row(what: "an actor crashes", isQuick: false) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            let node = try await stage.node(url)
            let teller = try stage.teller(client)
            let before = try await teller.incarnation()
            let exit = try await stage.watch(node, client)
            do {
                try await teller.crash()
                throw ActorFault("nothing was thrown")
            } catch is Broken {}
            let begun = ContinuousClock.now
            try require(try await teller.incarnation() > before, "it is the same incarnation")
            let (reason, told) = try await exit.value
            guard case .crashed = reason else { throw ActorFault("the watcher was told \(reason)") }
            return
                "its caller gets the error; the next call the next incarnation; the watcher is told `crashed` after \(ActorStage.milliseconds(begun, told))"
        }
    }

    static let actorKilled = Row(what: "an actor is killed", isQuick: false) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            let node = try await stage.node(url)
            let teller = try stage.teller(client)
            let before = try await teller.incarnation()
            let exit = try await stage.watch(node, client)
            do {
                try await teller.forget("yourself")
                throw ActorFault("it was answered by one that had ended")
            } catch RPCActorError.ended {}
            let (reason, _) = try await exit.value
            guard case .crashed = reason else { throw ActorFault("the watcher was told \(reason)") }
            try require(try await teller.incarnation() > before, "it is the same incarnation")
            return
                "the call in work is `ended`, the next call gets the next incarnation; the watcher is told `\(reason)`"
        }
    }

    static let intensity = Row(what: "an actor crashes more often than its supervisor allows", isQuick: false) {
        stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            _ = try await stage.node(url)
            let teller = try stage.teller(client)
            var crashes = 0
            while crashes < 10 {
                do {
                    try await teller.crash()
                } catch is Broken { crashes += 1 } catch RPCActorError.noProcess { break }
            }
            try require((2...9).contains(crashes), "\(crashes) crashes")
            do {
                _ = try await teller.greet(name: "")
                throw ActorFault("it was answered")
            } catch RPCActorError.noProcess {}
            try await stage.round(client)
            return "`noProcess` from call \(crashes + 1) on; the node's other actors go on"
        }
    }

    static let killed = Row(what: "a node gets SIGKILL", isQuick: true) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            let nodes = [try await stage.node(url), try await stage.node(url)]
            try await stage.round(client)
            let exit = try await stage.watch(nodes[0], client)
            let calls = try await stage.calls(10, at: nodes[0], client)
            let begun = ContinuousClock.now
            nodes[0].signal(SIGKILL)
            let after = try await stage.round(client)
            let round = ContinuousClock.now
            let ends = await ends(calls)
            let back = ContinuousClock.now
            let (reason, told) = try await exit.value
            try require(ends == ["node down"], "its calls: \(ends)")
            try require(reason == .noConnection, "the watcher was told \(reason)")
            try require(Set(after.map(\.node)) == [nodes[1].name], "the accounts are on \(after.map(\.node))")
            return
                "its watcher is told `\(reason)` after \(ActorStage.milliseconds(begun, told)); 10 calls at it are `nodeDown` after at most \(ActorStage.milliseconds(begun, back)); all accounts have answered elsewhere after \(ActorStage.milliseconds(begun, round))"
        }
    }

    static let stopped = Row(what: "a node gets SIGTERM", isQuick: true) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            let nodes = [try await stage.node(url), try await stage.node(url)]
            try await stage.round(client)
            let exit = try await stage.watch(nodes[0], client)
            let begun = ContinuousClock.now
            nodes[0].signal(SIGTERM)
            try await stage.round(client)
            let round = ContinuousClock.now
            await nodes[0].ended(within: .seconds(30))
            let (reason, told) = try await exit.value
            try require(reason == .normal, "the watcher was told \(reason)")
            try await stage.round(client)
            return
                "its watcher is told `\(reason)` after \(ActorStage.milliseconds(begun, told)); its accounts are handed over: all have answered after \(ActorStage.milliseconds(begun, round))"
        }
    }

    static let frozen = Row(what: "a node gets SIGSTOP, and SIGCONT later", isQuick: false) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            let nodes = [try await stage.node(url, heartbeat: 1), try await stage.node(url, heartbeat: 1)]
            try await stage.round(client)
            let exit = try await stage.watch(nodes[0], client)
            let calls = try await stage.calls(10, at: nodes[0], client)
            let begun = ContinuousClock.now
            nodes[0].signal(SIGSTOP)
            try await stage.round(client)
            let round = ContinuousClock.now
            let (reason, told) = try await exit.value
            try require(reason == .noConnection, "the watcher was told \(reason)")
            let ends = await ends(calls)
            try require(ends == ["node down"], "its calls: \(ends)")
            nodes[0].signal(SIGCONT)
            try await stage.round(client)
            try await stage.members(client) { $0.count == 2 && !$0.contains(nodes[0].name) }
            try await stage.round(client)
            return
                "with a heartbeat of 1 s: its watcher is told `\(reason)` after \(ActorStage.milliseconds(begun, told)); calls at it are `nodeDown`; all accounts have answered elsewhere after \(ActorStage.milliseconds(begun, round)); awake, it is a node of another name"
        }
    }

    static let cablePulled = Row(what: "a node's cable is pulled (half-open), and put back later", isQuick: false) {
        stage in
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let client = try await stage.client(url)
            let cut = try await stage.node(proxy.url(virtualHost: virtualHost), heartbeat: 1)
            _ = try await stage.node(url, heartbeat: 1)
            try await stage.round(client)
            let exit = try await stage.watch(cut, client)
            let calls = try await stage.calls(10, at: cut, client)
            let begun = ContinuousClock.now
            await proxy.set(.halfOpen)
            try await stage.round(client)
            let round = ContinuousClock.now
            let (reason, told) = try await exit.value
            try require(reason == .noConnection, "the watcher was told \(reason)")
            let ends = await ends(calls)
            try require(ends == ["node down"], "its calls: \(ends)")
            await proxy.heal()
            try await stage.members(client) { $0.count == 2 && !$0.contains(cut.name) }
            try await stage.round(client)
            await proxy.shutdown()
            return
                "with a heartbeat of 1 s: its watcher is told `\(reason)` after \(ActorStage.milliseconds(begun, told)); calls at it are `nodeDown`; all accounts have answered elsewhere after \(ActorStage.milliseconds(begun, round)); put back, it is a node of another name"
        }
    }

    static let lifeClosed = Row(what: "an administrator closes the channel of a node's life", isQuick: false) { stage in
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let client = try await stage.client(url)
            let nodes = [try await stage.node(url), try await stage.node(url)]
            try await stage.round(client)
            let exit = try await stage.watch(nodes[0], client)
            let calls = try await stage.calls(10, at: nodes[0], client)
            let consumers = try await broker.consumers(virtualHost: virtualHost)
            guard let life = consumers.first(where: { $0.queue == "\(nodes[0].name).life" }) else {
                throw ActorFault("it has no life")
            }
            let begun = ContinuousClock.now
            try await broker.closeChannel(life.channel, of: life.connection)
            let (reason, told) = try await exit.value
            try require(reason == .noConnection, "the watcher was told \(reason)")
            let ends = await ends(calls)
            let back = ContinuousClock.now
            try require(ends == ["node down"], "its calls: \(ends)")
            try await stage.members(client) { $0.count == 2 && !$0.contains(nodes[0].name) }
            let renewed = ContinuousClock.now
            try await stage.round(client)
            return
                "its watcher is told `\(reason)` after \(ActorStage.milliseconds(begun, told)); 10 calls at it are `nodeDown` after at most \(ActorStage.milliseconds(begun, back)); it is a node of another name after \(ActorStage.milliseconds(begun, renewed))"
        }
    }

    static let brokerKilled = Row(what: "the broker is killed, and comes back", isQuick: false) { stage in
        try await TestBroker.own { broker in
            let client = try await stage.client(broker.url)
            let nodes = [try await stage.node(broker.url), try await stage.node(broker.url)]
            try await stage.round(client)
            let exit = try await stage.watch(nodes[0], client)
            let calls = try await stage.calls(10, at: nodes[0], client)
            try await broker.kill()
            let ends = await ends(calls)
            try require(!ends.contains("answered"), "its calls: \(ends)")
            try await broker.startAgain()
            let begun = ContinuousClock.now
            try await stage.round(client)
            let round = ContinuousClock.now
            let (reason, _) = try await exit.value
            try require(reason == .noConnection, "the watcher was told \(reason)")
            try await stage.members(client) { $0.count == 2 && $0.isDisjoint(with: nodes.map(\.name)) }
            return
                "calls in work: \(ends.sorted().joined(separator: ", ")); all accounts have answered \(ActorStage.milliseconds(begun, round)) after it was back; both nodes have other names; the watcher is told `\(reason)`"
        }
    }

    static let watcherCutOff = Row(
        what: "a watcher is cut off (half-open) while a node is killed, and comes back",
        isQuick: false
    ) { stage in
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let proxy = try await FaultProxy.start(to: broker)
            let client = try await stage.client([proxy.url(virtualHost: virtualHost)], heartbeat: 1)
            let nodes = [try await stage.node(url), try await stage.node(url)]
            try await stage.round(client)
            let dead = try await stage.watch(nodes[0], client)
            let alive = try await stage.watch(nodes[1], client)
            await proxy.set(.halfOpen)
            nodes[0].signal(SIGKILL)
            await nodes[0].ended(within: .seconds(10))
            // Until the broker has published what the watcher does not hear.
            try await Task.sleep(for: .seconds(3))
            let begun = ContinuousClock.now
            await proxy.heal()
            let (reason, told) = try await dead.value
            try require([.noConnection, .noProcess].contains(reason), "the watcher was told \(reason)")
            try await stage.round(client)
            nodes[1].signal(SIGTERM)
            let (second, _) = try await alive.value
            try require(second == .normal, "of the one that lived it was told \(second)")
            await proxy.shutdown()
            return
                "it is told `\(reason)` \(ActorStage.milliseconds(begun, told)) after it is back, and of the node that lives nothing before that ends"
        }
    }

    static let poison = Row(what: "a request of a virtual actor kills its host each time", isQuick: false) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            var nodes: [NodeProcess] = []
            for _ in 0..<5 { nodes.append(try await stage.node(url)) }
            try await stage.round(client)
            let id = ActorAddress.virtual("bank", "account", "0", shards: ActorStage.shards)
            let account = try $Account<RPCActorSystem>.resolve(id: id, using: client)
            do {
                try await RemoteCall.with(timeout: .seconds(60)) { try await account.crash() }
                throw ActorFault("it was answered")
            } catch RPCActorError.rpc(.remote(let failure)) {
                try require(failure.code == .poison, "\(failure)")
            }
            try await stage.round(client)
            let dead = nodes.count { !$0.isRunning }
            try require((3...4).contains(dead), "\(dead) nodes ended")
            return "its caller gets `poison` when \(dead) nodes have ended; the rest go on"
        }
    }

    static let servicePoison = Row(
        what: "a request of a service's actor kills its host each time, on a classic queue",
        isQuick: false
    ) { stage in
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try await stage.client(url)
            var nodes: [NodeProcess] = []
            for _ in 0..<3 { nodes.append(try await stage.node(url)) }
            let teller = try stage.teller(client)
            do {
                try await RemoteCall.with(timeout: .seconds(10)) { try await teller.leak() }
                throw ActorFault("it was answered")
            } catch RPCActorError.rpc(let error) {
                guard case .timeout = error else { throw ActorFault("\(error)") }
            }
            let dead = nodes.count { !$0.isRunning }
            try require(dead >= 1, "no node ended")
            // The broker drops it when its caller has given up.
            _ = try await stage.node(url)
            let greeting = try await RemoteCall.with(timeout: .seconds(30)) { try await teller.greet(name: "you") }
            try require(greeting == "hello, you", greeting)
            return
                "it ends with its caller's deadline, after \(dead) of 3 nodes; declare the service's queue as a quorum queue, which counts. Nodes that are started then go on"
        }
    }

    static let replyQueue = Row(what: "the caller's reply queue is deleted, and a node is killed then", isQuick: false)
    { stage in
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let client = try await stage.client(url)
            let nodes = [try await stage.node(url), try await stage.node(url)]
            try await stage.round(client)
            let queues = try await broker.queues(virtualHost: virtualHost).map(\.name)
            guard let replies = queues.first(where: { $0.hasPrefix("till.replies.") }) else {
                throw ActorFault("\(queues)")
            }
            try await broker.deleteQueue(replies, virtualHost: virtualHost)
            try await stage.round(client)
            let calls = try await stage.calls(10, at: nodes[0], client)
            nodes[0].signal(SIGKILL)
            let ends = await ends(calls)
            try require(ends == ["node down"], "its calls: \(ends)")
            return
                "the next calls are answered, and 10 at the node are `nodeDown`: the new queue is bound as the old one was"
        }
    }

    static let clusterNode = Row(
        what: "a node of a broker cluster of three is killed, with quorum queues",
        isQuick: false
    ) { stage in
        try await TestBroker.withCluster { cluster in
            let result: Result<String, any Error>
            do {
                let urls = cluster.urls()
                let client = try await stage.client([urls[2], urls[1]])
                // Each connected to a broker of its own, with another one to go to.
                let nodes = [
                    try await stage.node("\(urls[0]),\(urls[1])", quorum: true),
                    try await stage.node("\(urls[1]),\(urls[2])", quorum: true),
                ]
                try await stage.round(client)
                let begun = ContinuousClock.now
                try await cluster.nodes[0].kill()
                try await stage.round(client)
                let round = ContinuousClock.now
                try await stage.members(client) { $0.count == 2 }
                _ = nodes
                try await cluster.startAgain()
                try await stage.round(client)
                result = .success(
                    "all accounts have answered after \(ActorStage.milliseconds(begun, round)), and again when it is back"
                )
            } catch {
                result = .failure(error)
            }
            await stage.end()
            return try result.get()
        }
    }
}
