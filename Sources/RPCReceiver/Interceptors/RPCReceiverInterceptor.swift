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
/// outermost. They run on the handler's task, within its deadline, before a deduplication, before the procedure is looked up and the argument
/// decoded, and after the result was encoded: each sees a request that comes again, and what one answers by itself is not stored. So they see requests for procedures that do not exist, too; not those whose headers cannot be read,
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

    /// Runs the rest.
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
