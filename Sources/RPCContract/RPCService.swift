/// A service as both sides of a call know it: its name and its procedures, in one type.
///
///     enum Math: RPCService {
///         static let name = "math"
///         static let add = RPCProcedure<[Int], Int>("add")
///         static let fib = RPCProcedure<Int, Int>("fib")
///         static let procedures: [any RPCDeclaration] = [add, fib]
///     }
///
///     let sum = try await rpc.call(Math.self, Math.add, [4, 9])               // the caller
///
///     let receiver = RPCReceiver(Math.self, endpoints: endpoints) {           // the receiver
///         Procedure(Math.add) { numbers, _ in numbers.reduce(0, +) }
///         Procedure(Math.fib) { n, context in try await fib(n, deadline: context.deadline) }
///     }
///
/// A receiver that is made for a service does not start when a procedure of it is missing, or is declared otherwise. `rpc describe math`
/// prints what a running one answers.
public protocol RPCService: Sendable {
    /// The name that requests are sent to.
    static var name: String { get }
    /// Everything that a receiver of the service answers.
    static var procedures: [any RPCDeclaration] { get }
}

/// The declaration of a procedure, whatever its types.
public protocol RPCDeclaration: Sendable {
    /// Its name and its types, for people and for comparing.
    var description: RPCProcedureDescription { get }
}

/// What a procedure is called, takes and returns.
public struct RPCProcedureDescription: Sendable, Hashable, Codable {
    /// The name on the wire; `nil` for a service's default procedure.
    public var name: String?
    /// The type of its argument, as Swift writes it.
    public var request: String
    /// The type of its result, as Swift writes it.
    public var response: String
    /// What its argument is written in.
    public var requestContentType: String
    /// What its result is written in.
    public var responseContentType: String

    /// A description of a procedure.
    public init(
        name: String?,
        request: String,
        response: String,
        requestContentType: String,
        responseContentType: String
    ) {
        self.name = name
        self.request = request
        self.response = response
        self.requestContentType = requestContentType
        self.responseContentType = responseContentType
    }
}

extension RPCProcedure: RPCDeclaration {
    /// Its name, the names of its types, and their content types.
    public var description: RPCProcedureDescription {
        RPCProcedureDescription(
            name: name,
            request: "\(Request.self)",
            response: "\(Response.self)",
            requestContentType: request.contentType,
            responseContentType: response.contentType
        )
    }
}

/// What a service answers, as a receiver of it says when it is asked for ``procedureName``.
public struct RPCServiceDescription: Sendable, Hashable, Codable {
    /// The procedure that each receiver answers with its description, unless it is told not to, or has one of this name itself.
    public static var procedureName: String { "rpc.describe" }
    /// The declaration of that procedure. Its argument means nothing.
    public static var procedure: RPCProcedure<JSONValue, RPCServiceDescription> { RPCProcedure(procedureName) }

    /// The service's name.
    public var service: String
    /// What it answers, sorted by name; the default procedure first.
    public var procedures: [RPCProcedureDescription]

    /// A description of a service.
    public init(service: String, procedures: [RPCProcedureDescription]) {
        self.service = service
        self.procedures = procedures
    }
}
