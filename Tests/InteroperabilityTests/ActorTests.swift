import AMQPPool
import ActorContracts
import BrokerSupport
import Distributed
import Foundation
import LocalBroker
import RPCActors
import RPCReceiver
import Supervision
import Testing

private distributed actor SwiftTeller: Teller {
    typealias ActorSystem = RPCActorSystem
    distributed func greet(name: String) -> String { "hello, \(name)" }
    distributed func transfer(_ transfer: Transfer, note: String?) throws -> Int {
        guard transfer.cents <= 100 else { throw Insufficient(missing: transfer.cents - 100) }
        return transfer.cents
    }
    distributed func forget(_ name: String) {}
    distributed func leak() throws { throw Secret() }
    distributed func sleep(milliseconds: Int) -> Int { milliseconds }
    distributed func crash() {}
    distributed func incarnation() -> Int { 1 }
}

private distributed actor SwiftAccount: Account {
    typealias ActorSystem = RPCActorSystem
    private let activation: VirtualActivation
    private var cents = 0

    init(_ activation: VirtualActivation, actorSystem: RPCActorSystem) {
        self.actorSystem = actorSystem
        self.activation = activation
    }

    distributed func add(_ cents: Int) -> Balance {
        self.cents += cents
        return Balance(key: activation.key, cents: self.cents, node: "", number: activation.number, calls: 0)
    }
    distributed func hold(milliseconds: Int) -> Balance { add(0) }
    distributed func crash() {}
}

@Suite("Actors of other languages", .enabled(if: Program.interpreter != nil), .timeLimit(.minutes(4)))
struct ActorTests {
    private func ask(_ program: Program, _ command: String) async throws -> String {
        try program.say(command)
        return try await program.line()
    }

    @Test("a client in Python calls an actor of a service and a virtual one")
    func client() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let actors = RPCActorSystem(service: "bank", endpoints: [try Endpoint(url: url)], logger: quiet) {
                Export(
                    SwiftTeller.self,
                    as: $Teller<RPCActorSystem>.self,
                    errors: Insufficient.self,
                    methods: [
                        { _ = try await $0.greet(name: "") }, { _ = try await $0.transfer(Transfer(), note: nil) },
                        { try await $0.forget("") },
                    ]
                )
                Export(
                    SwiftAccount.self,
                    as: $Account<RPCActorSystem>.self,
                    methods: [{ _ = try await $0.add(0) }]
                )
            }
            let root = Supervisor("bank", strategy: .restForOne, logger: quiet) {
                actors.supervisor
                Child.distributed("teller", in: actors) { SwiftTeller(actorSystem: $0) }
                Child.virtual("account", shards: 8, in: actors) { SwiftAccount($0, actorSystem: actors) }
            }
            try await root.start()
            try await actors.waitUntilReady(timeout: .seconds(90))
            try await whileRunning("actor_client", ["bank", "teller"], url: url) { client in
                let greeting = try await ask(client, #"{"method": "Teller.greet(name:)", "arguments": ["Ann"]}"#)
                #expect(greeting == #"{"result": "hello, Ann"}"#)
                let nothing = try await ask(client, #"{"method": "Teller.forget(_:)", "arguments": ["Ann"]}"#)
                #expect(nothing == #"{"result": null}"#)
                let refused = try await ask(
                    client,
                    #"{"method": "Teller.transfer(_:note:)", "arguments": [{"from": "a", "to": "b", "cents": 105}, null]}"#
                )
                #expect(
                    refused
                        == #"{"error": "thrown", "details": {"type": "ActorContracts.Insufficient", "value": {"missing": 5}}}"#
                )
                let wrong = try await ask(client, #"{"method": "Teller.greet(name:)", "arguments": [7]}"#)
                #expect(wrong.contains("undecodable_request"))
                for count in 1...3 {
                    let balance = try await ask(
                        client,
                        #"{"method": "Account.add(_:)", "arguments": [1], "kind": "account", "key": "alice", "shards": 8}"#
                    )
                    #expect(balance.contains(#""cents": \#(count)"#), "\(balance)")
                }
            }
            await root.stop()
        }
    }

    @Test("a server in Python answers calls of an actor, and its failures are the errors that they say")
    func server() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            let actors = RPCActorSystem(
                service: "till",
                endpoints: [try Endpoint(url: url)],
                errors: [Insufficient.self],
                logger: quiet
            )
            try await actors.start()
            try await whileRunning("actor_server", ["pybank"], url: url) { _ in
                let teller = try $Teller<RPCActorSystem>.resolve(id: .service("pybank", "teller"), using: actors)
                #expect(try await teller.greet(name: "Ann") == "hej, Ann")
                #expect(try await teller.transfer(Transfer(cents: 3), note: nil) == 3)
                await #expect(throws: Insufficient(missing: 5)) {
                    try await teller.transfer(Transfer(cents: 105), note: nil)
                }
                let unknown = await #expect(throws: RPCActorError.self) { try await teller.incarnation() }
                guard case .unknownMethod? = unknown else {
                    Issue.record("\(String(describing: unknown))")
                    return
                }
                let nobody = try $Teller<RPCActorSystem>.resolve(id: .service("pybank", "nobody"), using: actors)
                let absent = await #expect(throws: RPCActorError.self) { try await nobody.greet(name: "") }
                guard case .noProcess? = absent else {
                    Issue.record("\(String(describing: absent))")
                    return
                }
            }
            await actors.stop()
        }
    }
}
