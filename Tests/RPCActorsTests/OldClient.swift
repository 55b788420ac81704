import ActorContracts
import RPCActors

/// A client of the first version of the contract.
struct OldClient {
    private let teller: $Teller<RPCActorSystem>

    init(_ client: RPCActorSystem) throws {
        teller = try $Teller<RPCActorSystem>.resolve(id: .service("bank", "teller"), using: client)
    }

    func greet() async throws -> String { try await teller.greet(name: "Ann") }
    func transfer(_ cents: Int) async throws -> Int { try await teller.transfer(Transfer(cents: cents), note: nil) }
    func sleep() async throws { _ = try await teller.sleep(milliseconds: 0) }
}
