import NIOCore
package import Tracing

extension Instruments {
    /// Publishes a message within a span of kind producer, whose context is injected into the message's headers.
    func publishing(
        _ message: OutgoingMessage,
        _ publish: (OutgoingMessage) async throws(AMQPError) -> Void
    ) async throws(AMQPError) {
        var message = message
        let span = beginPublishing(&message)
        defer { span.end() }
        do throws(AMQPError) {
            try await publish(message)
        } catch {
            span.fail(error.publishOutcome)
            throw error
        }
    }

    /// Begins a span of kind producer, whose context is injected into the message's headers.
    func beginPublishing(_ message: inout OutgoingMessage) -> any Span {
        // A message that is published instead of another one, or later than it was created, belongs to the context in its headers.
        var parent = ServiceContext.current ?? .topLevel
        if ServiceContext.current == nil { extract(from: message.properties.headers, into: &parent) }
        let span = tracer.startSpan("publish \(message.destination)", context: parent, ofKind: .producer)
        span.describe(
            message.properties,
            message.body,
            destination: message.destination,
            operation: ("publish", "send")
        )
        span.attributes[MessageSpanAttribute.routingKey.rawValue] = message.routingKey
        inject(span.context, into: &message.properties.headers)
        return span
    }

    /// Handles a message within a span of kind consumer, the child of the context in its headers.
    func handling<Result>(
        _ delivery: Delivery,
        from queue: String,
        _ handle: (any Span) async throws -> Result
    ) async rethrows -> Result {
        var context = ServiceContext.topLevel
        extract(from: delivery.properties.headers, into: &context)
        let span = tracer.startSpan("process \(queue)", context: context, ofKind: .consumer)
        defer { span.end() }
        span.describe(delivery.properties, delivery.body, destination: queue, operation: ("process", "process"))
        span.attributes[MessageSpanAttribute.routingKey.rawValue] = delivery.routingKey
        span.attributes[MessageSpanAttribute.deliveryTag.rawValue] = Int(clamping: delivery.deliveryTag)
        return try await ServiceContext.$current.withValue(span.context) { try await handle(span) }
    }
}

extension Span {
    /// The attributes of every message span.
    package func describe(
        _ properties: MessageProperties,
        _ body: ByteBuffer,
        destination: String,
        operation: (name: String, type: String)
    ) {
        describe(
            messageID: properties.messageID,
            bodySize: body.readableBytes,
            destination: destination,
            operation: operation
        )
        if let id = properties.correlationID { attributes[MessageSpanAttribute.conversationID.rawValue] = id }
    }

    /// The same for a message without its own properties.
    package func describe(
        messageID: String?,
        bodySize: Int,
        destination: String?,
        operation: (name: String, type: String)
    ) {
        attributes[MessageSpanAttribute.system.rawValue] = "rabbitmq"
        attributes[MessageSpanAttribute.operationName.rawValue] = operation.name
        attributes[MessageSpanAttribute.operationType.rawValue] = operation.type
        if let destination { attributes[MessageSpanAttribute.destinationName.rawValue] = destination }
        if let messageID { attributes[MessageSpanAttribute.messageID.rawValue] = messageID }
        attributes[MessageSpanAttribute.bodySize.rawValue] = bodySize
    }
}
