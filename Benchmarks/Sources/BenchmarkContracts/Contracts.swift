public import Distributed

// A module of its own: in a release build Swift 6.3's compiler ends by an assertion when a stub's method is called in the
// module that declares its protocol.

/// What the rows about actors call.
@Resolvable
public protocol Echoing: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func echo(_ text: String) async throws -> String
}

/// What the rows about virtual actors call.
@Resolvable
public protocol Counting: DistributedActor where ActorSystem: DistributedActorSystem<any Codable> {
    distributed func add(_ count: Int) async throws -> Count
}

/// How much, and in which process.
public struct Count: Codable, Sendable {
    /// All that was added.
    public let count: Int
    /// The ID of the process.
    public let process: Int32

    /// The sum, and where it is.
    public init(count: Int, process: Int32) {
        self.count = count
        self.process = process
    }
}
