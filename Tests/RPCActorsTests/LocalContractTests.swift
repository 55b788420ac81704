import ActorContracts
import Distributed
import Testing

/// Nothing of this library is imported here.
private distributed actor LocalTeller: Teller {
    typealias ActorSystem = LocalTestingDistributedActorSystem
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

@Suite("A contract that imports Distributed alone")
struct LocalContractTests {
    @Test("is tested in process, without a broker")
    func local() async throws {
        let teller: any Teller = LocalTeller(actorSystem: LocalTestingDistributedActorSystem())
        #expect(try await teller.greet(name: "Ann") == "hello, Ann")
        await #expect(throws: Insufficient(missing: 5)) {
            try await teller.transfer(Transfer(cents: 105), note: nil)
        }
    }
}
