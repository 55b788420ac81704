public import Distributed

/// The next version of the contract, in another module: an argument has one field more.
public struct Transfer: Codable, Sendable, Equatable {
    /// Who pays.
    public var from: String
    /// Who gets it.
    public var to: String
    /// How much.
    public var cents: Int
    /// What the version before does not know.
    public var urgent: Bool?

    /// One with these values.
    public init(from: String = "", to: String = "", cents: Int = 0, urgent: Bool? = nil) {
        (self.from, self.to, self.cents, self.urgent) = (from, to, cents, urgent)
    }
}

/// A teller with a method more, one whose label has changed, and one that has become synchronous.
@Resolvable
public protocol Teller: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func greet(name: String) -> String
    distributed func transfer(_ transfer: Transfer, note: String?) async throws -> Int
    distributed func sleep(seconds: Int) async throws -> Int
    distributed func wave() async throws -> String
}
