import NIOCore
import RPCWire

/// A service's handlers by procedure name, independent of AMQP: a receiver answers requests with them, and a unit test can call them in process.
///
///     let math = RPCHandlers {
///         RPCHandler("add") { (args: [Int], _) in args.reduce(0, +) }
///     }
///     let sum: Int = try await math.call("add", [4, 9])
public struct RPCHandlers: Sendable {
    private var byName: [String: RPCHandler]
    private let unnamed: RPCHandler?
    /// Answers requests for all other names, and says which of these names are known.
    private let otherwise: (@Sendable (ByteBuffer, String?, RPCContext) async throws -> RPCReply)?
    private let knowsOtherwise: @Sendable (String) -> Bool
    private let hasOnConnection: Bool
    /// A repeated name, if there is one: an error that the receiver reports when it starts.
    let duplicate: String?

    /// Creates procedures from those that the builder lists.
    public init(@RPCHandlersBuilder _ procedures: () -> [RPCHandler]) {
        var byName: [String: RPCHandler] = [:]
        var unnamed: RPCHandler?
        var duplicate: String?
        for procedure in procedures() {
            if let name = procedure.name {
                if byName.updateValue(procedure, forKey: name) != nil { duplicate = duplicate ?? name }
            } else {
                if unnamed != nil { duplicate = duplicate ?? "default" }
                unnamed = procedure
            }
        }
        self.byName = byName
        self.unnamed = unnamed
        self.duplicate = duplicate
        hasOnConnection = unnamed?.place == .onConnection || byName.values.contains { $0.place == .onConnection }
        otherwise = nil
        knowsOtherwise = { _ in false }
    }

    /// Creates a single handler for all requests: it gets the body, its content type, and the context with the procedure's name.
    ///
    /// - Parameter knows: Whether a procedure's name may appear in metrics and traces: a peer may send any name.
    package init(
        knows: @escaping @Sendable (String) -> Bool,
        otherwise: @escaping @Sendable (ByteBuffer, String?, RPCContext) async throws -> RPCReply
    ) {
        byName = [:]
        unnamed = nil
        duplicate = nil
        hasOnConnection = false
        self.otherwise = otherwise
        knowsOtherwise = knows
    }

    /// The names for callers, sorted.
    public var names: [String] { byName.keys.sorted() }

    /// Their descriptions: the default procedure first, then by name.
    public var descriptions: [RPCProcedureDescription] {
        (unnamed.map { [$0.description] } ?? [])
            + byName.values.map(\.description).sorted { ($0.name ?? "") < ($1.name ?? "") }
    }

    /// The same, with a procedure that describes the service, unless there is one of that name.
    func describing(_ service: String) -> RPCHandlers {
        let description = RPCServiceDescription(service: service, procedures: descriptions)
        guard !knows(RPCServiceDescription.procedureName) else { return self }
        var procedures = self
        procedures.byName[RPCServiceDescription.procedureName] = RPCHandler(RPCServiceDescription.procedure) { _, _ in
            description
        }
        return procedures
    }

    /// Throws if a declaration of the contract is missing or has other types.
    func check(against contract: any RPCService.Type) throws(RPCConfigurationError) {
        let own = Dictionary(descriptions.map { ($0.name, $0) }) { first, _ in first }
        for declared in contract.procedures.map(\.description) {
            let name = declared.name ?? "default"
            guard let procedure = own[declared.name] else { throw .missingProcedure(name, service: contract.name) }
            guard procedure == declared else { throw .differentProcedure(name, service: contract.name) }
        }
    }

    /// Whether there is a procedure of this name, or a default one if there is no name.
    func knows(_ name: String?) -> Bool {
        name.map { byName[$0] != nil || knowsOtherwise($0) } ?? (unnamed != nil)
    }

    /// The procedure for a request, if it runs on the connection.
    func onConnection(_ name: String?) -> RPCHandler? {
        guard hasOnConnection, let procedure = name.map({ byName[$0] }) ?? unnamed else { return nil }
        return procedure.place == .onConnection ? procedure : nil
    }

    /// Calls a procedure in process, with JSON, exactly like a request over the wire: argument and result are encoded and decoded.
    ///
    /// - Throws: The failure that a caller would get as a remote error; `RPCFailure.Code.unencodableResult` when the result is not an
    ///   `Output`.
    public nonisolated(nonsending) func call<Output: Decodable>(
        _ procedure: String,
        _ argument: some Encodable,
        context: RPCContext? = nil,
        as type: Output.Type = Output.self
    ) async throws(RPCFailure) -> Output {
        try await call(
            procedure,
            contentType: JSON.contentType,
            context: context,
            encode: { () throws(RPCCodecError) in try JSON.encode(argument) },
            decode: { bytes throws(RPCCodecError) in try JSON.decode(Output.self, from: bytes) }
        )
    }

    /// Calls a declared procedure in process, exactly like a request over the wire: argument and result are encoded and decoded.
    ///
    /// - Throws: The failure that a caller would get as a remote error; `RPCFailure.Code.unencodableResult` when the declaration's codec
    ///   cannot decode the result.
    public nonisolated(nonsending) func call<Request, Response>(
        _ procedure: RPCProcedure<Request, Response>,
        _ argument: Request,
        context: RPCContext? = nil
    ) async throws(RPCFailure) -> Response {
        try await call(
            procedure.name,
            contentType: procedure.request.contentType,
            context: context,
            encode: { () throws(RPCCodecError) in try procedure.request.encode(argument) },
            decode: { bytes throws(RPCCodecError) in try procedure.response.decode(bytes) }
        )
    }

    private nonisolated(nonsending) func call<Output>(
        _ procedure: String?,
        contentType: String,
        context: RPCContext?,
        encode: () throws(RPCCodecError) -> ByteBuffer,
        decode: (ByteBuffer) throws(RPCCodecError) -> Output
    ) async throws(RPCFailure) -> Output {
        let body: ByteBuffer
        do throws(RPCCodecError) {
            body = try encode()
        } catch {
            throw RPCFailure(code: .undecodableRequest, message: "\(error)")
        }
        let context = context ?? RPCContext(procedure: procedure ?? "")
        switch await handle(procedure: procedure, contentType: contentType, body: body, context: context) {
        case .result(let result):
            do throws(RPCCodecError) {
                return try decode(result.body)
            } catch {
                throw RPCFailure(code: .unencodableResult, message: "\(error)")
            }
        case .failed(let failure): throw failure
        case .crashed: throw .handlerFailed
        }
    }

    /// Runs one request.
    func handle(
        procedure name: String?,
        contentType: String?,
        body: ByteBuffer,
        context: RPCContext,
        passesUpstreamFailures: Bool = false
    ) async -> HandlerOutcome {
        guard let procedure = name.map({ byName[$0] }) ?? unnamed else {
            if let otherwise {
                do {
                    return .result(try await otherwise(body, contentType, context))
                } catch {
                    return HandlerOutcome(error)
                }
            }
            let message =
                name.map { "no procedure \"\($0)\"" } ?? "the request names no procedure, and there is no default one"
            return .failed(RPCFailure(code: .unknownProcedure, message: message))
        }
        return await procedure.handler(body, contentType, context, passesUpstreamFailures)
    }
}

extension RPCFailure {
    /// The failure that a caller gets for a handler's own error.
    static var handlerFailed: RPCFailure {
        RPCFailure(code: .internalError, message: "the procedure failed")
    }
}
