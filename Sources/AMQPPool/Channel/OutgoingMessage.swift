public import NIOCore

/// A message to be published, and where: for publishing many at once.
public struct OutgoingMessage: Sendable {
    /// The message itself.
    public var body: ByteBuffer
    /// Its properties.
    public var properties: MessageProperties
    /// Where to; empty for the default exchange, which routes by queue name.
    public var exchange: String
    /// What the exchange routes by.
    public var routingKey: String
    /// Whether a message that no queue takes is an error.
    public var mandatory: Bool

    /// A message for an exchange, or for a queue by its name.
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
    /// Where it goes to, for people: the exchange, or with the default one the queue.
    package var destination: String { exchange.isEmpty ? routingKey : exchange }

    /// As it is sent.
    var method: Method { .basicPublish(exchange: exchange, routingKey: routingKey, mandatory: mandatory) }
}
