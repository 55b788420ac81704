public import Distributed
public import RPCCaller

/// How a call to a remote actor ended without a result or an error of its method.
public enum RPCActorError: DistributedActorSystemError, Sendable, Equatable {
    /// The actor does not exist: its service is unknown to the broker, its node has no such actor, or its node has been lost for long.
    /// Nothing was processed.
    case noProcess(ActorAddress)
    /// The actor's node did not take the request in time, or was lost with it. It may have been processed.
    case nodeDown(ActorAddress)
    /// The actor ended while its method ran. The request was processed, at least partially.
    case ended(ActorAddress)
    /// The actor has no method of this name, or none with these types. Nothing was processed.
    case unknownMethod(String)
    /// The receiver cannot decode the arguments. Nothing was processed.
    case undecodableArguments(String)
    /// An argument cannot be encoded. Nothing was sent.
    case notEncodable(String)
    /// The result cannot be decoded here.
    case undecodableResult(String)
    /// Any other error of an RPC.
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
    /// The error as a sentence.
    public var description: String {
        switch self {
        case .noProcess(let address): "no process: \(address) does not exist"
        case .nodeDown(let address): "the node of \(address) is down or does not respond; the method may have run"
        case .ended(let address): "\(address) ended while its method ran"
        case .unknownMethod(let text): "unknown method: \(text)"
        case .undecodableArguments(let text): "the arguments cannot be decoded: \(text)"
        case .notEncodable(let text): "cannot be encoded: \(text)"
        case .undecodableResult(let text): "the result cannot be decoded: \(text)"
        case .rpc(let error): "\(error)"
        }
    }
}

/// An error of a remote method whose type is not registered here: see ``RPCActorSystem``.
public struct RemoteError: Error, Sendable, Hashable, CustomStringConvertible {
    /// The error's type on the other side, including its module.
    public let type: String
    /// The encoded error.
    public let value: JSONValue

    /// The error as text.
    public var description: String { "\(type): \(value)" }
}

/// An error that ends the actor whose method throws it: the caller gets the error, and the supervisor decides what follows.
///
/// Any other error that a method throws is an ordinary answer, and the actor keeps running.
public protocol CrashingError: Error {}

/// How a remote actor ended: see `exited(_:)` of ``RPCActorSystem``.
public enum RemoteExit: Sendable, Hashable {
    /// It ended normally, or was stopped.
    case normal
    /// It crashed or was killed, with the reason as described by its node.
    case crashed(String)
    /// It did not exist, or had already ended.
    case noProcess
    /// The broker lost its node: the process may be dead or only disconnected. A node that comes back has another name.
    case noConnection
}

extension RemoteExit: CustomStringConvertible {
    /// The exit as text.
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

    /// The error as text.
    public var description: String { "\(actor) ended: \(exit)" }
}

/// The failure codes that this module adds to those of RPC.
extension RPCFailure.Code {
    static let noProcess: Self = "no_process"
    static let actorEnded: Self = "actor_ended"
    static let thrown: Self = "thrown"
    static let notAlive: Self = "not_alive"
}

/// An invalid configuration of a system. Nothing was started.
public enum RPCActorConfigurationError: Error, Sendable, Hashable {
    /// The service's name contains one of the characters that separate the parts of addresses: `!`, `@`, `#`, `/`.
    case invalidService(String)
    /// The exports of this actor type cannot be called: the protocol is private, or not at the top level of its module.
    case unusableExport(type: String)
    /// The name of a kind of virtual actors is empty, contains one of the characters that separate the parts of addresses, or makes the
    /// names of its queues longer than 255 bytes.
    case invalidKind(String)
}

extension RPCActorConfigurationError: CustomStringConvertible {
    /// What to change, as a sentence.
    public var description: String {
        switch self {
        case .invalidService(let name):
            "\"\(name)\" is not a valid name for a service with actors: it must contain none of ! @ # /"
        case .unusableExport(let type):
            "the exports of \(type) cannot be called: declare its protocol internal or public, at the top level of a module"
        case .invalidKind(let name):
            "\"\(name)\" is not a valid name for a kind of virtual actors: it must have at least one character, none of ! @ # /, and together with its service's name at most 240 bytes"
        }
    }
}
