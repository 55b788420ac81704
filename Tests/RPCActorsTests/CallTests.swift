import AMQPPool
import ActorContracts
import BrokerSupport
import Distributed
import LocalBroker
import RPCActors
import RPCCaller
import RPCWire
import Supervision
import SupervisionTesting
import Testing

@Suite("Calling an actor of a service", .timeLimit(.minutes(4)))
struct CallTests {
    private func teller(_ client: RPCActorSystem, _ name: String = "teller", of service: String = "bank") throws
        -> $Teller<RPCActorSystem>
    {
        try $Teller<RPCActorSystem>.resolve(id: .service(service, name), using: client)
    }

    @Test("passes arguments and results, and the errors that were exported")
    func calls() async throws {
        try await Bank.with { _, client, _, _ in
            let teller = try teller(client)
            #expect(try await teller.greet(name: "Ann") == "hello, Ann")
            #expect(try await teller.transfer(Transfer(cents: 3), note: "four") == 7)
            #expect(try await teller.transfer(Transfer(cents: 3), note: nil) == 3)
            try await teller.forget("Ann")
            await #expect(throws: Insufficient(missing: 5)) {
                try await teller.transfer(Transfer(cents: 105), note: nil)
            }
            let auditor = try $Auditor<RPCActorSystem>.resolve(id: .service("bank", "teller"), using: client)
            #expect(try await auditor.audit() == ["all is well"])
        }
    }

    @Test("says nothing of an error that nobody exported")
    func secret() async throws {
        try await Bank.with { _, client, _, _ in
            let error = await #expect(throws: RPCActorError.self) { try await teller(client).leak() }
            guard case .rpc(.remote(let failure))? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(failure.code == .internalError)
            #expect(!"\(failure)".contains("1234"))
        }
    }

    @Test("tells an actor that is not there from a service that is not there, and that nothing ran")
    func absent() async throws {
        try await Bank.with { _, client, _, _ in
            for teller in [try teller(client, "nobody"), try teller(client, of: "nowhere")] {
                let error = await #expect(throws: RPCActorError.self) { try await teller.greet(name: "") }
                guard case .noProcess? = error else {
                    Issue.record("\(String(describing: error))")
                    continue
                }
                #expect(error?.requestMayHaveBeenProcessed == false)
            }
        }
    }

    @Test(
        "calls nothing that is not exported: another protocol's method, another type's, a generic one, one of the type alone"
    )
    func exports() async throws {
        try await Bank.with { _, client, _, _ in
            func refused(_ body: () async throws -> Void) async throws {
                let error = await #expect(throws: RPCActorError.self) { try await body() }
                guard case .unknownMethod? = error else {
                    Issue.record("\(String(describing: error))")
                    return
                }
                #expect(error?.requestMayHaveBeenProcessed == false)
            }
            // Conforms, and is not exported.
            try await refused {
                _ = try await $Vault<RPCActorSystem>.resolve(id: .service("bank", "vault"), using: client).open()
            }
            // Another type's method: the runtime would run it, or trap.
            try await refused {
                _ = try await $Vault<RPCActorSystem>.resolve(id: .service("bank", "teller"), using: client).open()
            }
            try await refused {
                _ = try await $Ledger<RPCActorSystem>.resolve(id: .service("bank", "teller"), using: client).add(1)
            }
            try await refused { _ = try await BankTeller.resolve(id: .service("bank", "teller"), using: client).rob() }
            // A generic one would misread memory.
            try await refused {
                _ = try await $Echo<RPCActorSystem>.resolve(id: .service("bank", "echo"), using: client).echo("x")
            }
            #expect(try await teller(client).greet(name: "still there") == "hello, still there")
        }
    }

    @Test("takes a method's deadline from its caller, cancels it then, and passes it on")
    func deadline() async throws {
        try await Bank.with { _, client, _, _ in
            let teller = try teller(client)
            let error = await #expect(throws: RPCActorError.self) {
                try await RemoteCall.with(timeout: .milliseconds(100)) { try await teller.sleep(milliseconds: 600_000) }
            }
            guard case .rpc(.timeout)? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            #expect(try await teller.greet(name: "") == "hello, ")
        }
    }

    @Test("waits for the next incarnation of an actor that crashed: its caller gets the error")
    func crash() async throws {
        try await Bank.with { _, client, _, _ in
            let teller = try teller(client)
            let before = try await teller.incarnation()
            await #expect(throws: Corrupted.self) { try await teller.crash() }
            #expect(try await teller.incarnation() > before)
        }
    }

    @Test("a killed actor comes back under its address; one whose supervisor gives up is no process")
    func killed() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let client = try Bank.client(url)
            let actors = RPCActorSystem(service: "bank", configuration: try Bank.configuration(url), logger: quiet) {
                Export(BankTeller.self, as: $Teller<RPCActorSystem>.self)
            }
            let root = Supervisor("root", strategy: .oneForOne, logger: quiet) {
                actors.supervisor
                Supervisor("tellers", intensity: RestartIntensity(1, within: .seconds(60)), restart: .temporary) {
                    Child.distributed("teller", in: actors) { BankTeller(actorSystem: $0) }
                }
            }
            try await root.start()
            try await client.start()
            try await actors.waitUntilReady(timeout: .seconds(90))
            let teller = try teller(client)
            let tree = LiveTree(root)
            let before = try await teller.incarnation()
            _ = await (try tree.end("root/tellers/teller", by: .kill)).exited()
            #expect(try await teller.incarnation() > before)
            _ = await (try tree.end("root/tellers/teller", by: .kill)).exited()
            let error = await #expect(throws: RPCActorError.self) { try await teller.incarnation() }
            guard case .noProcess? = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            await root.stop()
            await client.stop()
        }
    }

    @Test("an actor of a node is reached by the id that a method returned; one that is gone is no process")
    func ofNode() async throws {
        try await Bank.with(nodes: 2) { _, client, _, _ in
            let office = try $Office.resolve(id: .service("bank", "office"), using: client)
            let address = try await office.open()
            let ledger = try $Ledger<RPCActorSystem>.resolve(id: address, using: client)
            #expect(try await ledger.add(3) == 3)
            #expect(try await ledger.add(4) == 7)
            // A reference as an argument, called back from wherever the office is.
            #expect(try await office.visit(address) == 8)
        }
    }

    @Test("needs two connections a process, whatever it hosts")
    func connections() async throws {
        try await Bank.with { _, client, broker, virtualHost in
            _ = try await teller(client).greet(name: "")
            try await eventually("there are two connections for the node and two for the client") {
                try await broker.connections(virtualHost: virtualHost).count == 4
            }
        }
    }
}
