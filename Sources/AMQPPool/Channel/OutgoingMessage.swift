public import NIOCore

/// A message and its destination, for publishing many at once.
public struct OutgoingMessage: Sendable {
    /// The body.
    public var body: ByteBuffer
    /// Its properties.
    public var properties: MessageProperties
    /// The exchange; empty for the default exchange, which routes by queue name.
    public var exchange: String
    /// The routing key.
    public var routingKey: String
    /// Whether a message that cannot be routed to a queue is an error.
    public var mandatory: Bool

    /// Creates a message for an exchange, or for a queue by its name.
    public init(
        _ body: ByteBuffer,
        properties: MessageProperties = MessageProperties(),
        exchange: String = "",
        routingKey: String,
        mandatory: Bool = false
    ) {
        self.body = body
        self.properties = properties
        self.exchange = exchange
        self.routingKey = routingKey
        self.mandatory = mandatory
    }
}

extension OutgoingMessage {
    /// The readable destination: the exchange or, with the default exchange, the queue.
    package var destination: String { exchange.isEmpty ? routingKey : exchange }

    /// The method that publishes the message.
    var method: Method { .basicPublish(exchange: exchange, routingKey: routingKey, mandatory: mandatory) }
}
