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
        attributes[SpanAttribute.system.rawValue] = "rabbitmq"
        attributes[SpanAttribute.messagingSystem.rawValue] = "rabbitmq"
        attributes[SpanAttribute.method.rawValue] = method
        attributes[SpanAttribute.operationName.rawValue] = operation.name
        attributes[SpanAttribute.operationType.rawValue] = operation.type
        if let exchange { attributes[SpanAttribute.destinationName.rawValue] = exchange }
        if let id = request.messageID { attributes[SpanAttribute.messageID.rawValue] = id }
        attributes[SpanAttribute.bodySize.rawValue] = request.body.readableBytes
    }
}
