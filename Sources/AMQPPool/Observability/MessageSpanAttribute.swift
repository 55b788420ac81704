/// The attributes of message spans: OpenTelemetry's semantic conventions for messaging with RabbitMQ.
package enum MessageSpanAttribute: String, CaseIterable, Sendable {
    case system = "messaging.system"
    case operationName = "messaging.operation.name"
    case operationType = "messaging.operation.type"
    case destinationName = "messaging.destination.name"
    case routingKey = "messaging.rabbitmq.destination.routing_key"
    case deliveryTag = "messaging.rabbitmq.message.delivery_tag"
    case messageID = "messaging.message.id"
    case conversationID = "messaging.message.conversation_id"
    case bodySize = "messaging.message.body.size"
    case errorType = "error.type"
}
