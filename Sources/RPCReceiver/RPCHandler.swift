import NIOCore
import RPCWire

/// A handler of a service: answers the requests for one procedure.
///
///     RPCHandler("add") { (args: [Int], _) in args.reduce(0, +) }
///     RPCHandler("fib") { (n: Int, context) in try await fib(n, deadline: context.deadline) }
///     RPCHandler(Math.multiply) { numbers, _ in numbers.reduce(1, *) }
///     RPCHandler("cached", runs: .onConnection) { (key: String, _) in cache[key] }
///
/// The argument and the result are any `Decodable` and `Encodable`, or the types of an `RPCProcedure`'s codecs. To answer with an error,
/// the handler throws an `RPCFailure`; any other error is answered as `RPCFailure.Code.internalError` without its text.
public struct RPCHandler: Sendable {
    /// The name for callers; `nil` for the default procedure.
    var name: String? { description.name }
    /// Its name and types.
    public let description: RPCProcedureDescription
    let place: Place
    let handler: Handler
    /// The handler, if it is not async: it can run without a task.
    let directHandler: DirectHandler?

    /// Answers one request. The receiver's settings decide how failures of other services are answered.
    typealias Handler =
        @Sendable (ByteBuffer, _ contentType: String?, RPCContext, _ passesUpstreamFailures: Bool) async ->
        HandlerOutcome
    typealias DirectHandler =
        @Sendable (ByteBuffer, _ contentType: String?, RPCContext, _ passesUpstreamFailures: Bool) -> HandlerOutcome

    /// Where a procedure's handler runs.
    public enum Place: Sendable, Hashable {
        /// On the cooperative thread pool. Such a handler keeps no connection waiting.
        case onPool
        /// On the event loop of the request's connection: immediately, and without the two thread switches that cost more than a short
        /// handler itself. An async handler continues on the cooperative pool after its first suspension; one that is not async needs no
        /// task at all.
        ///
        /// For handlers that take microseconds and wait for nothing: **it must not block.** In the meantime the connection reads and writes
        /// nothing, including replies and heartbeats, and by default all connections of a pool share one event loop. A handler that holds
        /// it for more than 5 ms is logged in a warning, at most once a minute.
        ///
        /// A request larger than 16 KiB, those after the first 64 in one turn of the loop, and those that had to wait for a slot while
        /// ``RPCReceiverConfiguration/concurrency`` others ran, may run on the pool nevertheless. With interceptors, tracing or
        /// deduplication there is a task for each request.
        case onConnection
    }

    /// Creates a procedure with JSON as argument and result.
    ///
    /// - Parameters:
    ///   - name: The name for callers, compared byte by byte.
    ///   - place: Where the handler runs.
    ///   - handler: Answers one request. It is cancelled when its answer would be too late, and should end soon after; if it does not, it
    ///     keeps running but is no longer waited for.
    public init<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        _ name: String,
        runs place: Place = .onPool,
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) {
        self.init(json: name, place, .suspending(handler))
    }

    /// Creates a procedure with JSON as argument and result, whose handler is not async: on the connection it runs without a task.
    public init<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        _ name: String,
        runs place: Place,
        handler: @escaping @Sendable (Argument, RPCContext) throws -> Output
    ) {
        self.init(json: name, place, .direct(handler))
    }

    /// Creates the procedure for requests that name none, as sent by clients that know nothing about procedures, with JSON.
    public static func `default`<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        runs place: Place = .onPool,
        handler: @escaping @Sendable (Argument, RPCContext) async throws -> Output
    ) -> RPCHandler {
        RPCHandler(json: nil, place, .suspending(handler))
    }

    /// The same, with a handler that is not async.
    public static func `default`<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        runs place: Place,
        handler: @escaping @Sendable (Argument, RPCContext) throws -> Output
    ) -> RPCHandler {
        RPCHandler(json: nil, place, .direct(handler))
    }

    /// Creates a procedure from a declaration shared with its callers, with its name, types and codecs.
    ///
    /// - Parameters:
    ///   - declaration: The declaration. One without a name is the service's default procedure.
    ///   - place: Where the handler runs.
    ///   - handler: Answers one request. It is cancelled when its answer would be too late, and should end soon after; if it does not, it
    ///     keeps running but is no longer waited for.
    public init<Request: SendableMetatype, Response: SendableMetatype>(
        _ declaration: RPCProcedure<Request, Response>,
        runs place: Place = .onPool,
        handler: @escaping @Sendable (Request, RPCContext) async throws -> Response
    ) {
        self.init(declaration, place, .suspending(handler))
    }

    /// Creates a procedure from a declaration, with a handler that is not async: on the connection it runs without a task.
    public init<Request: SendableMetatype, Response: SendableMetatype>(
        _ declaration: RPCProcedure<Request, Response>,
        runs place: Place,
        handler: @escaping @Sendable (Request, RPCContext) throws -> Response
    ) {
        self.init(declaration, place, .direct(handler))
    }

    /// A user's handler.
    private enum Closure<Argument, Output>: Sendable {
        case suspending(@Sendable (Argument, RPCContext) async throws -> Output)
        case direct(@Sendable (Argument, RPCContext) throws -> Output)
    }

    private init<Request: SendableMetatype, Response: SendableMetatype>(
        _ declaration: RPCProcedure<Request, Response>,
        _ place: Place,
        _ closure: Closure<Request, Response>
    ) {
        let (request, response) = (declaration.request, declaration.response)
        self.init(
            declaration.description,
            takes: (request.contentType, { request.accepts($0) }),
            decode: { bytes throws(RPCCodecError) in try request.decode(bytes) },
            encode: { output throws(RPCCodecError) in
                RPCReply(contentType: response.contentType, body: try response.encode(output))
            },
            place,
            closure
        )
    }

    private init<Argument: Decodable & SendableMetatype, Output: Encodable & SendableMetatype>(
        json name: String?,
        _ place: Place,
        _ closure: Closure<Argument, Output>
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
            place,
            closure
        )
    }

    private init<Argument, Output>(
        _ description: RPCProcedureDescription,
        takes type: (name: String, accepts: @Sendable (String?) -> Bool),
        decode: @escaping @Sendable (ByteBuffer) throws(RPCCodecError) -> Argument,
        encode: @escaping @Sendable (Output) throws(RPCCodecError) -> RPCReply,
        _ place: Place,
        _ closure: Closure<Argument, Output>
    ) {
        self.description = description
        self.place = place
        let read = { @Sendable (body: ByteBuffer, contentType: String?) throws(RPCFailure) -> Argument in
            guard type.accepts(contentType) else {
                let message = "content type \"\(contentType ?? "")\" instead of \"\(type.name)\""
                throw RPCFailure(code: .unsupportedContentType, message: message)
            }
            do throws(RPCCodecError) {
                return try decode(body)
            } catch {
                throw RPCFailure(code: .undecodableRequest, message: "\(error)")
            }
        }
        let write = { @Sendable (output: Output) -> HandlerOutcome in
            do throws(RPCCodecError) {
                return .result(try encode(output))
            } catch {
                return .failed(RPCFailure(code: .unencodableResult, message: "\(error)"))
            }
        }
        switch closure {
        case .suspending(let handle):
            directHandler = nil
            handler = { body, contentType, context, passesUpstreamFailures in
                do {
                    return write(try await handle(try read(body, contentType), context))
                } catch {
                    return HandlerOutcome(error, passesUpstreamFailures: passesUpstreamFailures)
                }
            }
        case .direct(let handle):
            let direct: DirectHandler = { body, contentType, context, passesUpstreamFailures in
                do {
                    return write(try handle(try read(body, contentType), context))
                } catch {
                    return HandlerOutcome(error, passesUpstreamFailures: passesUpstreamFailures)
                }
            }
            directHandler = direct
            handler = { direct($0, $1, $2, $3) }
        }
    }
}

/// Collects the procedures of a service.
@resultBuilder
public enum RPCHandlersBuilder {
    /// A procedure.
    public static func buildExpression(_ procedure: RPCHandler) -> [RPCHandler] { [procedure] }
    /// An array of procedures.
    public static func buildExpression(_ procedures: [RPCHandler]) -> [RPCHandler] { procedures }
    /// All procedures, in order.
    public static func buildBlock(_ parts: [RPCHandler]...) -> [RPCHandler] { parts.flatMap { $0 } }
    /// An `if` without `else`.
    public static func buildOptional(_ part: [RPCHandler]?) -> [RPCHandler] { part ?? [] }
    /// The first branch.
    public static func buildEither(first part: [RPCHandler]) -> [RPCHandler] { part }
    /// The second branch.
    public static func buildEither(second part: [RPCHandler]) -> [RPCHandler] { part }
    /// A `for` loop.
    public static func buildArray(_ parts: [[RPCHandler]]) -> [RPCHandler] { parts.flatMap { $0 } }
}
