/// The declaration of a procedure, shared by the services that call it and the service that answers it: its name, its types and
/// how they are written. So caller and receiver cannot disagree, and the compiler checks both.
///
///     enum Math {
///         static let add = RPCProcedure<[Int], Int>("add")
///     }
///
///     let sum = try await rpc.call("math", Math.add, [4, 9])         // the caller
///     Procedure(Math.add) { numbers, _ in numbers.reduce(0, +) }      // the receiver
///
/// Put the declarations, and the types they name, into a module that both services import. Declared as a static member of the type
/// itself, a procedure can be written with a leading dot:
///
///     extension RPCProcedure<[Int], Int> {
///         static var add: Self { Self("add") }
///     }
///
///     let sum = try await rpc.call("math", .add, [4, 9])
public struct RPCProcedure<Request, Response>: Sendable {
    /// The name on the wire; `nil` for a service's default procedure, which requests without a name go to.
    public let name: String?
    /// How requests are written.
    public let request: any RPCCodec<Request>
    /// How results are written.
    public let response: any RPCCodec<Response>

    /// A procedure whose requests and results are written by these codecs.
    ///
    /// - Parameters:
    ///   - name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    ///   - request: How requests are written.
    ///   - response: How results are written.
    public init(_ name: String?, request: some RPCCodec<Request>, response: some RPCCodec<Response>) {
        self.name = name
        self.request = request
        self.response = response
    }
}

extension RPCProcedure where Request: Codable & SendableMetatype, Response: Codable & SendableMetatype {
    /// A procedure that takes and returns JSON.
    ///
    /// - Parameter name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    public init(_ name: String?) {
        self.init(name, request: JSONCodec(), response: JSONCodec())
    }
}

extension RPCProcedure where Request == Response {
    /// A procedure whose requests and results are of one type, written by one codec.
    ///
    /// - Parameters:
    ///   - name: The name on the wire, compared byte by byte; `nil` for a service's default procedure.
    ///   - codec: How both are written.
    public init(_ name: String?, codec: some RPCCodec<Request>) {
        self.init(name, request: codec, response: codec)
    }
}
