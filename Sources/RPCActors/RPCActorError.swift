public import Distributed
public import RPCCaller

/// How a call of a remote actor ended without a result or an error of its method's own.
public enum RPCActorError: DistributedActorSystemError, Sendable, Equatable {
    /// Nobody has the actor: its service is unknown to the broker, its node has no such actor, or its node has been gone for long.
    /// Nothing was processed.
    case noProcess(ActorAddress)
    /// The node that has the actor did not take the request in time, or was lost with it. It may have been processed.
    case nodeDown(ActorAddress)
    /// The actor ended while its method ran. It was processed, at least in part.
    case ended(ActorAddress)
    /// The actor answers no method of this name, or none with these types. Nothing was processed.
    case unknownMethod(String)
    /// The other side cannot read the arguments. Nothing was processed.
    case undecodableArguments(String)
    /// An argument cannot be encoded. Nothing was sent.
    case notEncodable(String)
    /// The result cannot be read here.
    case undecodableResult(String)
    /// Whatever else ended it, as it ends any call.
    case rpc(RPCError)

    /// Whether the method may have run.
    public var requestMayHaveBeenProcessed: Bool {
        switch self {
        case .noProcess, .unknownMethod, .undecodableArguments, .notEncodable: false
        case .nodeDown, .ended, .undecodableResult: true
        case .rpc(let error): error.requestMayHaveBeenProcessed
        }
    }
}

extension RPCActorError: CustomStringConvertible {
    /// In words.
    public var description: String {
        switch self {
        case .noProcess(let address): "no process: nobody has \(address)"
        case .nodeDown(let address): "the node of \(address) is down, or takes nothing; the method may have run"
        case .ended(let address): "\(address) ended while its method ran"
        case .unknownMethod(let text): "unknown method: \(text)"
        case .undecodableArguments(let text): "the arguments cannot be read: \(text)"
        case .notEncodable(let text): "not encodable: \(text)"
        case .undecodableResult(let text): "the result cannot be read: \(text)"
        case .rpc(let error): "\(error)"
        }
    }
}

/// What a remote method threw, where the type of its error is not registered here: see ``RPCActorSystem``.
public struct RemoteError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The error's type there, with its module.
    public let type: String
    /// What it encodes as.
    public let value: JSONValue

    /// In words.
    public var description: String { "\(type): \(value)" }
}

/// An error that ends the actor whose method throws it: its caller gets the error, and its supervisor decides what comes next.
///
/// Whatever else a method throws is an answer like any other, and the actor goes on.
public protocol CrashingError: Error {}

/// How a remote actor ended: see `exited(_:)` of ``RPCActorSystem``.
public enum RemoteExit: Sendable, Hashable {
    /// It came to its end, or was stopped.
    case normal
    /// It crashed, or was killed; with the reason as its node describes it.
    case crashed(String)
    /// It was not there, or had ended before.
    case noProcess
    /// The broker lost its node: the process may be dead or only cut off. A node that comes back has another name.
    case noConnection
}

extension RemoteExit: CustomStringConvertible {
    /// In words.
    public var description: String {
        switch self {
        case .normal: "normal"
        case .crashed(let text): "crashed: \(text)"
        case .noProcess: "no process"
        case .noConnection: "no connection"
        }
    }
}

/// Why a local process ended that was linked to a remote actor.
public struct LinkedActorExited: Error, Sendable, Hashable, CustomStringConvertible {
    /// The actor.
    public let actor: ActorAddress
    /// How it ended.
    public let exit: RemoteExit

    /// In words.
    public var description: String { "\(actor) ended: \(exit)" }
}

/// The codes of failures that this module adds to those of RPC.
extension RPCFailure.Code {
    static let noProcess: Self = "no_process"
    static let actorEnded: Self = "actor_ended"
    static let thrown: Self = "thrown"
    static let notAlive: Self = "not_alive"
}

/// A system is configured in a way that cannot work. Nothing was started.
public enum RPCActorConfigurationError: Error, Sendable, Hashable {
    /// The service's name contains one of the characters that addresses of actors use: `!`, `@`, `#`, `/`.
    case invalidService(String)
    /// What is exported of this actor type cannot be called: the protocol is private, or not at the top level of its module.
    case unusableExport(type: String)
    /// The name of a kind of virtual actors is empty, contains one of the characters that addresses of actors use, or makes the names of its
    /// queues longer than 255 bytes.
    case invalidKind(String)
}

extension RPCActorConfigurationError: CustomStringConvertible {
    /// One sentence: what to change.
    public var description: String {
        switch self {
        case .invalidService(let name):
            "\"\(name)\" is no name for a service with actors: it must contain none of ! @ # /"
        case .unusableExport(let type):
            "what is exported of \(type) cannot be called: declare its protocol internal or public, at the top level of a module"
        case .invalidKind(let name):
            "\"\(name)\" is no name for a kind of virtual actors: it must have at least one character, none of ! @ # /, and together with its service's name at most 240 bytes"
        }
    }
}
