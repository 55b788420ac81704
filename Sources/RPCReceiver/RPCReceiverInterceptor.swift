public import RPCWire

/// Sees, changes, answers or measures what a receiver gets and answers.
///
///     struct Authorization: RPCReceiverInterceptor {
///         func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply {
///             guard request.headers["token"] == "open sesame" else {
///                 throw RPCFailure(code: "forbidden", message: "the token is not valid")
///             }
///             return try await next(request, context)
///         }
///     }
///
/// Interceptors stand around each request that is run, in the order of ``RPCReceiverConfiguration/interceptors``: the first is the
/// outermost. They run on the handler's task, within its deadline, before the procedure is looked up and the argument decoded, and
/// after the result was encoded. So they see requests for procedures that do not exist, too; not those whose headers cannot be read,
/// and not those that are dropped because nobody waits for them any more. A receiver without interceptors does nothing for them.
public protocol RPCReceiverInterceptor: Sendable {
    /// Stands around one request.
    ///
    /// - Parameters:
    ///   - request: What came; pass another one on to change it.
    ///   - context: What the handler learns about it; pass another one on to change it.
    ///   - next: The rest of the way: it runs the procedure. Not calling it answers the request here.
    /// - Returns: What is sent back. A cast's is dropped.
    /// - Throws: An `RPCFailure` is sent back as it is; any other error is an internal one, as when a handler throws it.
    func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply
}

/// The rest of the way of a request that is intercepted: the interceptors that follow, and the procedure.
public struct RPCReceiverNext: Sendable {
    /// What stands at the end.
    typealias Last = @Sendable (RPCRequest, RPCContext) async throws -> RPCReply

    private let interceptors: ArraySlice<any RPCReceiverInterceptor>
    private let last: Last

    init(_ interceptors: ArraySlice<any RPCReceiverInterceptor>, last: @escaping Last) {
        self.interceptors = interceptors
        self.last = last
    }

    /// The end of the way, as a test of an interceptor needs it: a closure instead of the procedures.
    public init(_ last: @escaping @Sendable (RPCRequest, RPCContext) async throws -> RPCReply) {
        self.init([], last: last)
    }

    /// Goes it.
    ///
    /// - Throws: What the handler threw: an `RPCFailure`, or an error of its own. An unknown procedure, or an argument that it does not
    ///   take, are failures too.
    public func callAsFunction(_ request: RPCRequest, _ context: RPCContext) async throws -> RPCReply {
        guard let first = interceptors.first else { return try await last(request, context) }
        return try await first.intercept(
            request,
            context,
            next: RPCReceiverNext(interceptors.dropFirst(), last: last)
        )
    }
}

extension Procedures {
    /// Runs one request through interceptors.
    func handle(
        _ request: RPCRequest,
        _ context: RPCContext,
        through interceptors: [any RPCReceiverInterceptor]
    ) async -> HandlerOutcome {
        let all = RPCReceiverNext(interceptors[...]) { request, context in
            switch await handle(request, context) {
            case .result(let reply): return reply
            case .failed(let failure): throw failure
            case .crashed(let error): throw error
            }
        }
        do {
            return .result(try await all(request, context))
        } catch {
            return HandlerOutcome(error)
        }
    }

    private func handle(_ request: RPCRequest, _ context: RPCContext) async -> HandlerOutcome {
        await handle(
            procedure: request.procedure,
            contentType: request.contentType,
            body: request.body,
            context: context
        )
    }
}
