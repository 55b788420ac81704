import AMQPPool
import ActorContracts
import BrokerSupport
import LocalBroker
import NIOCore
import RPCCaller
import Supervision
import SupervisionTesting
import Testing

@testable import RPCActors

/// A local process that does nothing but live.
private actor Idle: Worker {
    func run() async throws { try await Task.sleep(for: .seconds(3600)) }
}

@Suite("Supervision across nodes", .timeLimit(.minutes(5)))
struct RemoteSupervisionTests {
    private func open(_ client: RPCActorSystem) async throws -> (office: $Office, ledger: $Ledger<RPCActorSystem>) {
        let office = try $Office.resolve(id: .service("bank", "office"), using: client)
        return (office, try $Ledger<RPCActorSystem>.resolve(id: try await office.open(), using: client))
    }

    @Test("the end of an instance is told: it came to its end")
    func normalEnd() async throws {
        try await Bank.with { _, client, _, _ in
            let (office, ledger) = try await open(client)
            let exit = Task { try await client.exited(ledger) }
            #expect(try await ledger.add(1) == 1)
            // Whether it is watched already, or asked for: both tell it.
            try await office.close(ledger.id)
            let ended = try await exit.value
            #expect([.normal, .noProcess].contains(ended))
            let error = await #expect(throws: RPCActorError.self) { try await ledger.add(1) }
            guard case .noProcess? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
        }
    }

    @Test("the crash of a supervised actor is told with its reason, by its node's address")
    func crash() async throws {
        try await Bank.with { nodes, client, _, _ in
            let address = RPCActorSystem.on(nodes[0].actors.node, "teller")
            let teller = try $Teller<RPCActorSystem>.resolve(id: address, using: client)
            #expect(try await teller.greet(name: "x") == "hello, x")
            let exit = Task { try await client.exited(address) }
            try await Task.sleep(for: .milliseconds(300))
            await #expect(throws: Corrupted.self) { try await teller.crash() }
            let ended = try await exit.value
            guard case .crashed(let text) = ended else {
                Issue.record("\(ended)")
                return
            }
            #expect(text.contains("Corrupted"))
        }
    }

    @Test("one that is not there, and one that many answer to, is no process at once")
    func absent() async throws {
        try await Bank.with { nodes, client, _, _ in
            let node = nodes[0].actors.node
            let absent = [
                RPCActorSystem.on(node, "nobody"), RPCActorSystem.on("bank@nowhere", "teller"),
                .service("bank", "teller"),
            ]
            for address in absent {
                let exit = try await client.exited(address)
                #expect(exit == .noProcess, "\(address)")
            }
        }
    }

    @Test("a wait is cancelled with its task")
    func cancelled() async throws {
        try await Bank.with { nodes, client, _, _ in
            let address = RPCActorSystem.on(nodes[0].actors.node, "teller")
            let exit = Task { try await client.exited(address) }
            try await Task.sleep(for: .milliseconds(100))
            exit.cancel()
            await #expect(throws: CancellationError.self) { try await exit.value }
        }
    }

    @Test(
        "a node that stops ends its actors normally; one that loses its life ends them with no connection, and comes back as another"
    )
    func nodes() async throws {
        try await Bank.with(nodes: 2) { nodes, client, _, _ in
            let first = RPCActorSystem.on(nodes[0].actors.node, "teller")
            let second = RPCActorSystem.on(nodes[1].actors.node, "teller")
            let exits = [first, second].map { address in Task { try await client.exited(address) } }
            try await Task.sleep(for: .milliseconds(500))
            await nodes[0].root.stop()
            #expect(try await exits[0].value == .normal)
            let name = nodes[1].actors.node
            for connection in nodes[1].actors.pool.connections { await connection.close() }
            #expect(try await exits[1].value == .noConnection)
            try await eventually("it has another name") { nodes[1].actors.node != name }
            try await nodes[1].actors.waitUntilReady(timeout: .seconds(90))
            let teller = try $Teller<RPCActorSystem>.resolve(
                id: RPCActorSystem.on(nodes[1].actors.node, "teller"),
                using: client
            )
            #expect(try await teller.greet(name: "again") == "hello, again")
        }
    }

    @Test("the members of a service are told as they come and go")
    func members() async throws {
        try await Bank.with(nodes: 1) { nodes, client, broker, virtualHost in
            let members = client.members(of: "bank")
            let second = try Bank.node(broker.url(virtualHost: virtualHost), accounts: nodes[0].accounts)
            try await second.root.start()
            let both: Set = [nodes[0].actors.node, second.actors.node]
            for await nodes in members where nodes == both { break }
            await second.root.stop()
            for await now in members where now == [nodes[0].actors.node] { break }
        }
    }

    @Test("a linked local process ends when the remote actor does, and at once when there is none")
    func link() async throws {
        try await Bank.with { nodes, client, _, _ in
            let address = RPCActorSystem.on(nodes[0].actors.node, "teller")
            let root = Supervisor("local", logger: quiet) {
                Child("linked", restart: .temporary) { context in
                    context.pid.link(to: address, in: client)
                    return Idle()
                }
                Child("alone", restart: .temporary) { context in
                    context.pid.link(to: RPCActorSystem.on("bank@nowhere", "x"), in: client)
                    return Idle()
                }
            }
            try await root.start()
            let linked = try root.child("linked", as: Idle.self).pid
            try await eventually("the one without a partner is gone") {
                (try? root.child("alone", as: Idle.self).resolve()) == nil
            }
            #expect(linked?.isAlive == true)
            let teller = try $Teller<RPCActorSystem>.resolve(id: address, using: client)
            await #expect(throws: Corrupted.self) { try await teller.crash() }
            guard case .crashed(let error)? = await linked?.exited(), let exit = error as? LinkedActorExited else {
                Issue.record("\(String(describing: await linked?.exited()))")
                return
            }
            #expect(exit.actor == address)
            await root.stop()
        }
    }

    @Test(
        "a local process whose remote actor is gone each time it starts is restarted as often as its supervisor allows"
    )
    func linkIntensity() async throws {
        try await Bank.with { _, client, _, _ in
            let starts = Counter()
            let root = Supervisor("local", intensity: RestartIntensity(2, within: .seconds(60)), logger: quiet) {
                Child("linked") { context in
                    starts.next()
                    context.pid.link(to: RPCActorSystem.on("bank@nowhere", "x"), in: client)
                    return Idle()
                }
            }
            let error = await #expect(throws: (any Error).self) { try await root.run() }
            #expect(starts.value == 3)
            #expect("\(error.map { "\($0)" } ?? "")".contains("bank@nowhere!x"))
        }
    }

    /// How a node is lost.
    enum Loss: String, CaseIterable, CustomTestStringConvertible {
        case allConnections = "all its connections"
        case connectionOfItsLife = "the connection of its life alone, closed by an administrator"
        case channelOfItsLife = "the channel of its life alone, closed by an administrator"

        var testDescription: String { rawValue }
    }

    private func lose(_ node: RPCActorSystem, _ loss: Loss, _ broker: LocalBroker, _ virtualHost: String) async throws {
        // A connection that is still being made would go on as if nothing had happened.
        try await eventually("both connections are there") {
            try await broker.connections(virtualHost: virtualHost).count >= 4 && node.pool.connections.count == 2
        }
        let consumers = try await broker.consumers(virtualHost: virtualHost)
        let life = try #require(consumers.first { $0.queue == "\(node.node).life" })
        switch loss {
        case .allConnections: for connection in node.pool.connections { await connection.close() }
        case .connectionOfItsLife: try await broker.closeConnection(life.connection)
        case .channelOfItsLife: try await broker.closeChannel(life.channel, of: life.connection)
        }
    }

    @Test(
        "calls at a node that is lost come back to their callers, and are neither answered by what is left of it nor left to their deadlines",
        arguments: Loss.allCases
    )
    func bounce(_ loss: Loss) async throws {
        try await Bank.with(nodes: 1) { nodes, client, broker, virtualHost in
            let name = nodes[0].actors.node
            let (_, ledger) = try await open(client)
            let calls = (0..<20).map { _ in Task { try await ledger.stall() } }
            try await eventually("all are in work") {
                try await broker.queue(name, virtualHost: virtualHost)?.unacknowledged == 20
            }
            let exit = Task { try await client.exited(ledger) }
            try await lose(nodes[0].actors, loss, broker, virtualHost)
            for call in calls {
                let error = await #expect(throws: RPCActorError.self) { try await call.value }
                guard case .nodeDown? = error else {
                    Issue.record("\(String(describing: error))")
                    continue
                }
                #expect(error?.requestMayHaveBeenProcessed == true)
            }
            #expect([.noConnection, .noProcess].contains(try await exit.value))
            try await eventually("it has another name") { nodes[0].actors.node != name }
            try await nodes[0].actors.waitUntilReady(timeout: .seconds(90))
            let (_, next) = try await open(client)
            #expect(try await next.add(1) == 1)
        }
    }

    @Test(
        "a call whose request goes with the node's queue is told so, and not left to its deadline, also when what looks after it is killed",
        arguments: [false, true]
    )
    func queueGone(_ kills: Bool) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let client = try Bank.client(url) { $0.nodeCheckInterval = .milliseconds(100) }
            try await client.start()
            try await client.waitUntilReady(timeout: .seconds(90))
            // As that of a node that was lost a minute ago, just before it expires: what is in it goes with it, and does not come back.
            try await broker.declareQueue("bank@lost", virtualHost: virtualHost)
            let ledger = try $Ledger<RPCActorSystem>.resolve(
                id: RPCActorSystem.on("bank@lost", "ledger"),
                using: client
            )
            let call = Task { try await ledger.add(1) }
            try await eventually("the request is in the queue") {
                try await broker.queue("bank@lost", virtualHost: virtualHost)?.messages ?? 0 >= 1
            }
            if kills {
                let killed = try LiveTree(client.supervisor).end("actors/parts/node-calls", by: .kill)
                _ = await killed.exited()
            }
            try await broker.deleteQueue("bank@lost", virtualHost: virtualHost)
            let error = await #expect(throws: RPCActorError.self) { try await call.value }
            guard case .nodeDown? = error else {
                Issue.record("\(String(describing: error))")
                await client.stop()
                return
            }
            await client.stop()
        }
    }

    @Test("a node of whose end the broker would not tell says of no actor that it is there")
    func notAlive() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let node = try Bank.node(url)
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], logger: quiet)
            let caller = RPCCaller(service: "asker", on: pool, logger: quiet)
            try await pool.start()
            try await caller.start()
            // Its life needs the exchange as it should be.
            try await pool.withDedicatedChannel {
                try await $0.declareExchange("rpc.obituaries", type: .fanout, durable: true)
            }
            try await node.root.start()
            let all = node.root.events
            let crashed = Task {
                var crashed: [String] = []
                for await event in all where event.path.hasSuffix("/events") {
                    if case .exited(_, expected: false) = event.kind { crashed.append(event.path) }
                }
                return crashed
            }
            try await node.actors.waitUntilReady(timeout: .seconds(90))
            let error = await #expect(throws: RPCError.self) {
                try await caller.call(
                    node.actors.node,
                    isQueue: true,
                    procedure: "alive",
                    contentType: "application/json",
                    headers: ["actor": "teller", "ask": "alive"],
                    body: ByteBuffer(string: "[]"),
                    timeout: .seconds(20),
                    retry: .never
                )
            }
            guard case .remote(let failure)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(failure.code == "not_alive")
            await node.root.stop()
            // It is refused again and again, and nothing is restarted for that: what restarts often takes others with it.
            #expect(await crashed.value == [])
            await caller.stop()
            await pool.stop()
        }
    }
}
