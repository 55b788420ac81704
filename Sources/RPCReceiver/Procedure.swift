import NIOCore
import RPCWire

/// One procedure of a service: its name, and the code that answers it.
///
///     Procedure("add") { (args: [Int], _) in args.reduce(0, +) }
///     Procedure("fib") { (n: Int, context) in try await fib(n, deadline: context.deadline) }
///
/// The argument and the result are any `Decodable` and `Encodable`. To answer with an error the handler throws an
/// ``RPCWire/RPCFailure``; any other error is answered as ``RPCWire/RPCFailure/Code-swift.struct/internalError`` without its
/// text.
public struct Procedure: Sendable {
    /// The name callers use; `nil` for the default procedure.
    let name: String?
    let handler: @Sendable (ByteBuffer, any RPCCodec, RPCContext) async -> HandlerOutcome

    /// A procedure that callers call by this name.
    ///
    /// - Parameters:
    ///   - name: What callers use. Names are compared byte by byte.
    ///   - handler: Answers one request. It is cancelled when the answer would come too late, and should end soon then: one that
    ///     does not keeps running, but is no longer waited for.
    public init<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        _ name: String,
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) {
        self.init(name: name, handler: handler)
    }

    /// The procedure for requests that name none, as a client that knows nothing of procedures sends them.
    public static func `default`<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) -> Procedure {
        Procedure(name: nil, handler: handler)
    }

    private init<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        name: String?,
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) {
        self.name = name
        self.handler = { body, codec, context in
            let argument: Argument
            do {
                argument = try codec.decode(Argument.self, from: body)
            } catch {
                return .failed(RPCFailure(code: .undecodableRequest, message: "\(error)"))
            }
            let output: Output
            do {
                output = try await handler(argument, context)
            } catch let failure as RPCFailure {
                return .failed(failure)
            } catch {
                return .crashed(error)
            }
            do {
                return .result(try codec.encode(output))
            } catch {
                return .failed(RPCFailure(code: .unencodableResult, message: "\(error)"))
            }
        }
    }
}

/// How a handler ended.
enum HandlerOutcome: Sendable {
    /// With a result.
    case result(ByteBuffer)
    /// With a failure that is meant for the caller.
    case failed(RPCFailure)
    /// With an error that is not: it stays here.
    case crashed(any Error)
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
