import AMQPPool
import RPCWire
import Tracing

/// Creates a span for each call and cast, and propagates its context.
struct CallerTracing: RPCCallerInterceptor {
    let instruments: Instruments
    /// The exchange that requests are published to.
    let exchange: String

    func intercept(_ request: RPCRequest, next: RPCCallerNext) async throws(RPCError) -> RPCReply {
        let method = "\(request.destination)/\(request.procedure ?? "")"
        let span = instruments.tracer.startSpan(
            request.kind.awaitsReply ? method : "send \(method)",
            context: ServiceContext.current ?? .topLevel,
            ofKind: request.kind.awaitsReply ? .client : .producer
        )
        defer { span.end() }
        span.describe(request, method: method, operation: ("send", "send"), exchange: exchange)
        var request = request
        instruments.inject(span.context, into: &request.headers)
        let result = await ServiceContext.$current.withValue(span.context) { [request] in
            await Self.outcome { () throws(RPCError) in try await next(request) }
        }
        if case .failure(let error) = result {
            if case .remote(let failure) = error {
                span.attributes[RPCSpanAttribute.statusCode.rawValue] = failure.code.rawValue
                span.fail(failure.code.rawValue)
            } else {
                span.fail(error.kind)
            }
        }
        return try result.get()
    }

    private static func outcome(
        _ body: () async throws(RPCError) -> RPCReply
    ) async -> Result<RPCReply, RPCError> {
        do throws(RPCError) {
            return .success(try await body())
        } catch {
            return .failure(error)
        }
    }
}
