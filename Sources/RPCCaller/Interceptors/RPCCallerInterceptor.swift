public import RPCWire

/// Observes, changes, answers or measures the requests and replies of a caller.
///
///     struct Tenant: RPCCallerInterceptor {
///         func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply {
///             var request = request
///             request.headers["tenant"] = "blue"
///             return try await next(request)
///         }
///     }
///
/// Interceptors wrap each call and cast in the order of ``RPCCallerConfiguration/interceptors``: the first is the outermost. They run on
/// the calling task, after the argument has been encoded and before the result is decoded. An error that they throw is thrown by the call.
/// Without interceptors a caller has no overhead for them.
public protocol RPCCallerInterceptor: Sendable {
    /// Wraps one call or cast.
    ///
    /// - Parameters:
    ///   - request: The request; pass another one on to change it. `RPCRequest.kind` distinguishes calls from casts.
    ///   - next: The rest of the chain: it sends the request and waits for its reply, which is empty for a cast. Without calling it, the
    ///     interceptor answers the call itself. Calling it again sends another request, with its own id: to repeat the same request, use a
    ///     call's `retry`.
    func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply
}

/// The rest of the chain for an intercepted request: the inner interceptors, and the wire.
public struct RPCCallerNext: Sendable {
    /// The end of the chain.
    typealias Last = @Sendable (RPCRequest) async throws(RPCError) -> RPCReply

    private let interceptors: ArraySlice<any RPCCallerInterceptor>
    private let last: Last

    init(_ interceptors: ArraySlice<any RPCCallerInterceptor>, last: @escaping Last) {
        self.interceptors = interceptors
        self.last = last
    }

    /// Creates a chain for a test of an interceptor, with a closure instead of the wire.
    public init(_ last: @escaping @Sendable (RPCRequest) async throws(RPCError) -> RPCReply) {
        self.init([], last: last)
    }

    /// Runs the rest of the chain.
    ///
    /// - Throws: Why the call ended without a result: ``RPCError/remote(_:)`` if the receiver answered with a failure.
    public func callAsFunction(_ request: RPCRequest) async throws(RPCError) -> RPCReply {
        guard let first = interceptors.first else { return try await last(request) }
        return try await first.intercept(request, next: RPCCallerNext(interceptors.dropFirst(), last: last))
    }
}
