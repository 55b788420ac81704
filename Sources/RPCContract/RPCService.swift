/// The contract of a service: its name and its procedures, in one type shared by both sides.
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
///         RPCHandler(Math.add) { numbers, _ in numbers.reduce(0, +) }
///         RPCHandler(Math.fib) { n, context in try await fib(n, deadline: context.deadline) }
///     }
///
/// A receiver created for a contract does not start when a procedure is missing or has other types. `rpc describe math` prints the
/// procedures of a running one.
public protocol RPCService: Sendable {
    /// The name that requests are sent to.
    static var name: String { get }
    /// All procedures that a receiver of the service answers.
    static var procedures: [any RPCDeclaration] { get }
}

/// The declaration of a procedure, type-erased.
public protocol RPCDeclaration: Sendable {
    /// Its name and types, for display and comparison.
    var description: RPCProcedureDescription { get }
}

/// The name and types of a procedure.
public struct RPCProcedureDescription: Sendable, Hashable, Codable {
    /// The name on the wire; `nil` for a service's default procedure.
    public var name: String?
    /// The type of its argument, as Swift writes it.
    public var request: String
    /// The type of its result, as Swift writes it.
    public var response: String
    /// The content type of its argument.
    public var requestContentType: String
    /// The content type of its result.
    public var responseContentType: String

    /// Creates a description.
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

/// The procedures of a service, as answered by its receivers to ``procedureName``.
public struct RPCServiceDescription: Sendable, Hashable, Codable {
    /// The name of the procedure that each receiver answers with its description, unless that is disabled, or it has its own procedure of
    /// this name.
    public static var procedureName: String { "rpc.describe" }
    /// The declaration of that procedure. Its argument is ignored.
    public static var procedure: RPCProcedure<JSONValue, RPCServiceDescription> { RPCProcedure(procedureName) }

    /// The service's name.
    public var service: String
    /// Its procedures, sorted by name; the default procedure first.
    public var procedures: [RPCProcedureDescription]

    /// Creates a description.
    public init(service: String, procedures: [RPCProcedureDescription]) {
        self.service = service
        self.procedures = procedures
    }
}
