public import RPCWire

/// Observes, changes, answers or measures the requests and replies of a receiver.
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
/// Interceptors wrap each request that is run, in the order of ``RPCReceiverConfiguration/interceptors``: the first is the outermost. They
/// run on the handler's task, within its deadline, before deduplication and before the procedure is looked up and the argument decoded; the
/// reply passes them after the result has been encoded. They therefore see every repetition of a request, and a reply that an interceptor
/// makes itself is not stored. They also see requests for unknown procedures, but neither requests with unreadable headers nor those that
/// are dropped because nobody waits for them any more. Without interceptors a receiver has no overhead for them.
public protocol RPCReceiverInterceptor: Sendable {
    /// Wraps one request.
    ///
    /// - Parameters:
    ///   - request: The request; pass another one on to change it.
    ///   - context: The handler's context; pass another one on to change it.
    ///   - next: The rest of the chain: it runs the procedure. Without calling it, the interceptor answers the request itself.
    /// - Returns: The reply. A cast's is dropped.
    /// - Throws: An `RPCFailure` is sent unchanged; any other error becomes an internal one, as when a handler throws it.
    func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply
}

/// The rest of the chain for an intercepted request: the inner interceptors, and the procedure.
public struct RPCReceiverNext: Sendable {
    /// The end of the chain.
    typealias Last = @Sendable (RPCRequest, RPCContext) async throws -> RPCReply

    private let interceptors: ArraySlice<any RPCReceiverInterceptor>
    private let last: Last

    init(_ interceptors: ArraySlice<any RPCReceiverInterceptor>, last: @escaping Last) {
        self.interceptors = interceptors
        self.last = last
    }

    /// Creates a chain for a test of an interceptor, with a closure instead of the procedures.
    public init(_ last: @escaping @Sendable (RPCRequest, RPCContext) async throws -> RPCReply) {
        self.init([], last: last)
    }

    /// Runs the rest of the chain.
    ///
    /// - Throws: What the handler threw: an `RPCFailure`, or an error of its own. An unknown procedure and an invalid argument are failures
    ///   too.
    public func callAsFunction(_ request: RPCRequest, _ context: RPCContext) async throws -> RPCReply {
        guard let first = interceptors.first else { return try await last(request, context) }
        return try await first.intercept(
            request,
            context,
            next: RPCReceiverNext(interceptors.dropFirst(), last: last)
        )
    }
}
