import NIOCore
import RPCWire

/// One procedure of a service: its name, and the code that answers it.
///
///     Procedure("add") { (args: [Int], _) in args.reduce(0, +) }
///     Procedure("fib") { (n: Int, context) in try await fib(n, deadline: context.deadline) }
///     Procedure(Math.multiply) { numbers, _ in numbers.reduce(1, *) }
///
/// The argument and the result are any `Decodable` and `Encodable`, or what the codecs of an `RPCProcedure` carry. To
/// answer with an error the handler throws an `RPCFailure`; any other error is answered as
/// `RPCFailure.Code.internalError` without its text.
public struct Procedure: Sendable {
    /// The name callers use; `nil` for the default procedure.
    var name: String? { description.name }
    /// Its name and its types.
    public let description: RPCProcedureDescription
    let handler: Handler

    /// Answers one request: what it does with the failures of other services is the receiver's setting.
    typealias Handler =
        @Sendable (ByteBuffer, _ contentType: String?, RPCContext, _ passesUpstreamFailures: Bool) async ->
        HandlerOutcome

    /// A procedure that callers call by this name, with JSON.
    ///
    /// - Parameters:
    ///   - name: What callers use. Names are compared byte by byte.
    ///   - handler: Answers one request. It is cancelled when the answer would come too late, and should end soon then: one that
    ///     does not keeps running, but is no longer waited for.
    public init<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        _ name: String,
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) {
        self.init(json: name, handler: handler)
    }

    /// The procedure for requests that name none, as a client that knows nothing of procedures sends them, with JSON.
    public static func `default`<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) -> Procedure {
        Procedure(json: nil, handler: handler)
    }

    /// A procedure that is declared elsewhere, together with its callers: the declaration says its name, its types and how they are
    /// written.
    ///
    /// - Parameters:
    ///   - declaration: What callers call. One without a name is the service's default procedure.
    ///   - handler: Answers one request. It is cancelled when the answer would come too late, and should end soon then: one that
    ///     does not keeps running, but is no longer waited for.
    public init<Request: SendableMetatype, Response: SendableMetatype>(
        _ declaration: RPCProcedure<Request, Response>,
        handler: @escaping @Sendable (Request, RPCContext) async throws -> Response
    ) {
        let (request, response) = (declaration.request, declaration.response)
        self.init(
            declaration.description,
            takes: (request.contentType, { request.accepts($0) }),
            decode: { bytes throws(RPCCodecError) in try request.decode(bytes) },
            encode: { output throws(RPCCodecError) in
                RPCReply(contentType: response.contentType, body: try response.encode(output))
            },
            handler: handler
        )
    }

    private init<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        json name: String?,
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) {
        self.init(
            RPCProcedureDescription(
                name: name,
                request: "\(Argument.self)",
                response: "\(Output.self)",
                requestContentType: JSON.contentType,
                responseContentType: JSON.contentType
            ),
            takes: (JSON.contentType, { JSON.accepts(contentType: $0) }),
            decode: { bytes throws(RPCCodecError) in try JSON.decode(Argument.self, from: bytes) },
            encode: { output throws(RPCCodecError) in
                RPCReply(contentType: JSON.contentType, body: try JSON.encode(output))
            },
            handler: handler
        )
    }

    private init<Argument, Output>(
        _ description: RPCProcedureDescription,
        takes type: (name: String, accepts: @Sendable (String?) -> Bool),
        decode: @escaping @Sendable (ByteBuffer) throws(RPCCodecError) -> Argument,
        encode: @escaping @Sendable (Output) throws(RPCCodecError) -> RPCReply,
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) {
        self.description = description
        self.handler = { body, contentType, context, passesUpstreamFailures in
            guard type.accepts(contentType) else {
                let message = "content type \"\(contentType ?? "")\" instead of \"\(type.name)\""
                return .failed(RPCFailure(code: .unsupportedContentType, message: message))
            }
            let argument: Argument
            do throws(RPCCodecError) {
                argument = try decode(body)
            } catch {
                return .failed(RPCFailure(code: .undecodableRequest, message: "\(error)"))
            }
            let output: Output
            do {
                output = try await handler(argument, context)
            } catch {
                return HandlerOutcome(error, passesUpstreamFailures: passesUpstreamFailures)
            }
            do throws(RPCCodecError) {
                return .result(try encode(output))
            } catch {
                return .failed(RPCFailure(code: .unencodableResult, message: "\(error)"))
            }
        }
    }
}

/// How a handler ended.
enum HandlerOutcome: Sendable {
    /// With a result.
    case result(RPCReply)
    /// With a failure that is meant for the caller.
    case failed(RPCFailure)
    /// With an error that is not: it stays here.
    case crashed(any Error)

    /// What an error that a handler threw means.
    ///
    /// - Parameter passesUpstreamFailures: whether the failure of another service is handed on as it is.
    init(_ error: any Error, passesUpstreamFailures: Bool = false) {
        switch error {
        case let failure as RPCFailure: self = .failed(failure)
        case let error as any RPCFailureConvertible:
            let upstream = passesUpstreamFailures ? error.upstreamFailure : nil
            self = .failed(upstream ?? error.rpcFailure)
        default: self = .crashed(error)
        }
    }
}

/// Collects the procedures of a service.
@resultBuilder
public enum ProceduresBuilder {
    /// One procedure.
    public static func buildExpression(_ procedure: Procedure) -> [Procedure] { [procedure] }
    /// Procedures made elsewhere.
    public static func buildExpression(_ procedures: [Procedure]) -> [Procedure] { procedures }
    /// One after another.
    public static func buildBlock(_ parts: [Procedure]...) -> [Procedure] { parts.flatMap { $0 } }
    /// An `if` without `else`.
    public static func buildOptional(_ part: [Procedure]?) -> [Procedure] { part ?? [] }
    /// An `if`.
    public static func buildEither(first part: [Procedure]) -> [Procedure] { part }
    /// Its `else`.
    public static func buildEither(second part: [Procedure]) -> [Procedure] { part }
    /// A `for` loop.
    public static func buildArray(_ parts: [[Procedure]]) -> [Procedure] { parts.flatMap { $0 } }
}
