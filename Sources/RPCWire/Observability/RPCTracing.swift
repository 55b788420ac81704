public import AMQPPool
internal import NIOCore
import Tracing

/// Whether calls and requests become spans, and whose: the same as of messages.
public typealias RPCTracing = AMQPTracing

extension Span {
    /// What every span of a request says.
    package func describe(
        _ request: RPCRequest,
        method: String,
        operation: (name: String, type: String),
        exchange: String?
    ) {
        attributes[RPCSpanAttribute.system.rawValue] = "rabbitmq"
        attributes[RPCSpanAttribute.method.rawValue] = method
        describe(
            messageID: request.messageID,
            bodySize: request.body.readableBytes,
            destination: exchange,
            operation: operation
        )
    }
}
