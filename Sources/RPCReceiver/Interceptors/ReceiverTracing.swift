import AMQPPool
import RPCWire
import Tracing

/// Creates a span for each request that is run, as a child of its caller's, and runs the handler within it.
struct ReceiverTracing: RPCReceiverInterceptor {
    let instruments: Instruments
    let service: String
    /// Whether there is a procedure of this name. Unknown names must not become names of spans.
    let knows: @Sendable (String?) -> Bool

    func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply {
        var serviceContext = ServiceContext.current ?? .topLevel
        instruments.extract(from: request.headers, into: &serviceContext)
        let isKnown = knows(request.procedure)
        let method = "\(service)/\(isKnown ? request.procedure ?? "" : otherName)"
        let span = instruments.tracer.startSpan(
            request.kind.awaitsReply ? method : "process \(method)",
            context: serviceContext,
            ofKind: request.kind.awaitsReply ? .server : .consumer
        )
        defer { span.end() }
        span.describe(request, method: method, operation: ("process", "process"), exchange: nil)
        if !isKnown, let name = request.procedure {
            span.attributes[RPCSpanAttribute.originalMethod.rawValue] = "\(service)/\(name)"
        }
        do {
            return try await ServiceContext.$current.withValue(span.context) { try await next(request, context) }
        } catch {
            if let failure = error as? RPCFailure {
                span.attributes[RPCSpanAttribute.statusCode.rawValue] = failure.code.rawValue
                span.fail(failure.code.rawValue)
            } else {
                span.attributes[RPCSpanAttribute.statusCode.rawValue] = RPCFailure.Code.internalError.rawValue
                span.fail(String(reflecting: type(of: error)))
            }
            throw error
        }
    }
}
