public import Distributed

/// What callers need to know of a bank: nothing of AMQP, nothing of this library.
public struct Transfer: Codable, Sendable, Equatable {
    /// Who pays.
    public var from: String
    /// Who gets it.
    public var to: String
    /// How much.
    public var cents: Int

    /// One with these values.
    public init(from: String = "", to: String = "", cents: Int = 0) {
        (self.from, self.to, self.cents) = (from, to, cents)
    }
}

/// There is not enough.
public struct Insufficient: Error, Codable, Equatable, Sendable {
    /// How much.
    public var missing: Int

    /// One with these values.
    public init(missing: Int) { self.missing = missing }
}

/// An error that nobody exports.
public struct Secret: Error, Codable, Sendable {
    /// What nobody should see.
    public var password = "1234"

    /// One with these values.
    public init() {}
}

/// An actor of the service.
@Resolvable
public protocol Teller: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func greet(name: String) async throws -> String
    distributed func transfer(_ transfer: Transfer, note: String?) async throws -> Int
    distributed func forget(_ name: String) async throws
    distributed func leak() async throws
    distributed func sleep(milliseconds: Int) async throws -> Int
    distributed func crash() async throws
    distributed func incarnation() async throws -> Int
}

/// What a teller has besides.
@Resolvable
public protocol Auditor: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func audit() async throws -> [String]
}

/// One that no actor here implements, but the forger's.
@Resolvable
public protocol Vault: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func open() async throws -> String
}

/// A generic method, which cannot be called.
@Resolvable
public protocol Echo: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func echo<Value: Codable & Sendable>(_ value: Value) async throws -> Value
}

/// An actor of a node: it is made by a method, which returns its id.
@Resolvable
public protocol Ledger: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func add(_ cents: Int) async throws -> Int
    distributed func stall() async throws
}

/// A virtual actor: one for each key.
@Resolvable
public protocol Account: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func add(_ cents: Int) async throws -> Balance
    distributed func hold(milliseconds: Int) async throws -> Balance
    distributed func crash() async throws
}

/// What an account says of itself.
public struct Balance: Codable, Sendable, Equatable {
    /// Whose it is.
    public var key: String
    /// How much.
    public var cents: Int
    /// Which process, and which activation of how many.
    public var node: String
    /// Under which number it is active.
    public var number: Int64
    /// How many calls this activation has had.
    public var calls: Int

    /// One with these values.
    public init(key: String, cents: Int, node: String, number: Int64, calls: Int) {
        (self.key, self.cents, self.node, self.number, self.calls) = (key, cents, node, number, calls)
    }
}
