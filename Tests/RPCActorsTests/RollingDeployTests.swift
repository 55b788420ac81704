import ActorContractsNext
import BrokerSupport
import Distributed
import RPCActors
import RPCCaller
import Supervision
import Testing

/// A teller of the next version.
distributed actor NextTeller: Teller {
    typealias ActorSystem = RPCActorSystem
    distributed func greet(name: String) -> String { "hi, \(name)" }
    distributed func transfer(_ transfer: Transfer, note: String?) -> Int {
        transfer.urgent == true ? -1 : transfer.cents
    }
    distributed func sleep(seconds: Int) -> Int { seconds }
    distributed func wave() -> String { "waves" }
}

@Suite("Two versions of a contract", .timeLimit(.minutes(4)))
struct RollingDeployTests {
    private func expectUnknown(_ body: () async throws -> Void) async throws {
        let error = await #expect(throws: RPCActorError.self) { try await body() }
        guard case .unknownMethod? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error?.requestMayHaveBeenProcessed == false)
    }

    @Test(
        "a new client calls an old node: what both have works, though its types have moved; the rest is a clean error"
    )
    func newClient() async throws {
        try await Bank.with { _, client, _, _ in
            let teller = try $Teller<RPCActorSystem>.resolve(id: .service("bank", "teller"), using: client)
            #expect(try await teller.greet(name: "Ann") == "hello, Ann")
            #expect(try await teller.transfer(Transfer(cents: 3, urgent: true), note: nil) == 3)
            try await expectUnknown { _ = try await teller.sleep(seconds: 0) }
            try await expectUnknown { _ = try await teller.wave() }
        }
    }

    @Test("an old client calls a new node")
    func oldClient() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let actors = RPCActorSystem(service: "bank", configuration: try Bank.configuration(url), logger: quiet) {
                Export(
                    NextTeller.self,
                    as: $Teller<RPCActorSystem>.self,
                    methods: [
                        { _ = try await $0.greet(name: "") }, { _ = try await $0.transfer(Transfer(), note: nil) },
                        { _ = try await $0.sleep(seconds: 0) }, { _ = try await $0.wave() },
                    ]
                )
            }
            let root = Supervisor("bank", strategy: .restForOne, logger: quiet) {
                actors.supervisor
                Child.distributed("teller", in: actors) { NextTeller(actorSystem: $0) }
            }
            try await root.start()
            try await actors.waitUntilReady(timeout: .seconds(90))
            let client = try Bank.client(url)
            try await client.start()
            let old = try OldClient(client)
            #expect(try await old.greet() == "hi, Ann")
            #expect(try await old.transfer(3) == 3)
            try await expectUnknown { try await old.sleep() }
            await client.stop()
            await root.stop()
        }
    }
}
