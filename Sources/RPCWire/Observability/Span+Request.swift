internal import AMQPPool
internal import NIOCore
import Tracing

extension Span {
    /// The attributes of every span of a request.
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
