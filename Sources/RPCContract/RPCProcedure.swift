/// The declaration of a procedure, shared by its callers and the service that answers it: its name, its types and their codecs. Caller and
/// receiver cannot disagree, and the compiler checks both.
///
///     enum Math {
///         static let add = RPCProcedure<[Int], Int>("add")
///     }
///
///     let sum = try await rpc.call("math", Math.add, [4, 9])         // the caller
///     RPCHandler(Math.add) { numbers, _ in numbers.reduce(0, +) }      // the receiver
///
/// Put the declarations, and their types, into a module that both services import. A procedure declared as a static member of its own type
/// can be written with a leading dot:
///
///     extension RPCProcedure<[Int], Int> {
///         static var add: Self { Self("add") }
///     }
///
///     let sum = try await rpc.call("math", .add, [4, 9])
public struct RPCProcedure<Request, Response>: Sendable {
    /// The name on the wire; `nil` for a service's default procedure, which gets the requests without a name.
    public let name: String?
    /// The codec of requests.
    public let request: any RPCCodec<Request>
    /// The codec of results.
    public let response: any RPCCodec<Response>

    /// Creates a procedure with these codecs.
    ///
    /// - Parameters:
    ///   - name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    ///   - request: The codec of requests.
    ///   - response: The codec of results.
    public init(_ name: String?, request: some RPCCodec<Request>, response: some RPCCodec<Response>) {
        self.name = name
        self.request = request
        self.response = response
    }
}

extension RPCProcedure where Request: Codable & SendableMetatype, Response: Codable & SendableMetatype {
    /// Creates a procedure with JSON as argument and result.
    ///
    /// - Parameter name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    public init(_ name: String?) {
        self.init(name, request: JSONCodec(), response: JSONCodec())
    }
}

extension RPCProcedure where Request == Response {
    /// Creates a procedure whose requests and results have the same type and codec.
    ///
    /// - Parameters:
    ///   - name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    ///   - codec: The codec of both.
    public init(_ name: String?, codec: some RPCCodec<Request>) {
        self.init(name, request: codec, response: codec)
    }
}
