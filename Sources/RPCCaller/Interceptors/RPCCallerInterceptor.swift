public import RPCWire

/// Sees, changes, answers or measures what a caller sends and gets.
///
///     struct Tenant: RPCCallerInterceptor {
///         func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply {
///             var request = request
///             request.headers["tenant"] = "blue"
///             return try await next(request)
///         }
///     }
///
/// Interceptors stand around each call and cast in the order of ``RPCCallerConfiguration/interceptors``: the first is the outermost.
/// They run on the calling task, after the argument was encoded and before the result is decoded. What they throw the call throws. A
/// caller without interceptors does nothing for them.
public protocol RPCCallerInterceptor: Sendable {
    /// Stands around one call or cast.
    ///
    /// - Parameters:
    ///   - request: What is sent; pass another one on to change it. `RPCRequest.kind` tells calls from casts.
    ///   - next: The rest of the way: it sends the request and waits for its reply, an empty one if it is a cast. Not calling it
    ///     answers the call here. Calling it again sends another request, with an id of its own: to send the same again, use a
    ///     call's `retry`.
    func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply
}

/// The rest of the way of a request that is intercepted: the interceptors that follow, and the wire.
public struct RPCCallerNext: Sendable {
    /// What stands at the end.
    typealias Last = @Sendable (RPCRequest) async throws(RPCError) -> RPCReply

    private let interceptors: ArraySlice<any RPCCallerInterceptor>
    private let last: Last

    init(_ interceptors: ArraySlice<any RPCCallerInterceptor>, last: @escaping Last) {
        self.interceptors = interceptors
        self.last = last
    }

    /// The end of the way, as a test of an interceptor needs it: a closure instead of the wire.
    public init(_ last: @escaping @Sendable (RPCRequest) async throws(RPCError) -> RPCReply) {
        self.init([], last: last)
    }

    /// Runs the rest.
    ///
    /// - Throws: How the call ended without a result: ``RPCError/remote(_:)`` if the receiver answered with a failure.
    public func callAsFunction(_ request: RPCRequest) async throws(RPCError) -> RPCReply {
        guard let first = interceptors.first else { return try await last(request) }
        return try await first.intercept(request, next: RPCCallerNext(interceptors.dropFirst(), last: last))
    }
}
