public import NIOCore

/// A message that the broker delivered to a consumer or answered a get with.
public struct Delivery: Sendable {
    /// The consumer it was delivered to; empty for a message fetched by a get.
    public var consumerTag: String
    /// What ``AMQPChannel/acknowledge(_:multiple:)`` takes. Valid on the channel it came from, and on no other.
    public var deliveryTag: UInt64
    /// Whether it may have been delivered before.
    public var redelivered: Bool
    /// The exchange it was published to.
    public var exchange: String
    /// The routing key it was published with.
    public var routingKey: String
    /// Its properties.
    public var properties: MessageProperties
    /// Its body.
    public var body: ByteBuffer

    package init(
        consumerTag: String,
        deliveryTag: UInt64,
        redelivered: Bool,
        exchange: String,
        routingKey: String,
        properties: MessageProperties,
        body: ByteBuffer
    ) {
        self.consumerTag = consumerTag
        self.deliveryTag = deliveryTag
        self.redelivered = redelivered
        self.exchange = exchange
        self.routingKey = routingKey
        self.properties = properties
        self.body = body
    }
}

/// What a queue held when it was declared.
public struct QueueStatus: Sendable, Hashable {
    /// The queue's name; the broker's choice where none was given.
    public var name: String
    /// Messages ready for delivery.
    public var messageCount: Int
    /// Consumers of the queue.
    public var consumerCount: Int
}

/// How an exchange routes.
public enum ExchangeType: Sendable, Hashable {
    /// By equal routing keys.
    case direct
    /// To every bound queue.
    case fanout
    /// By patterns over the routing key's words.
    case topic
    /// By the message's headers.
    case headers
    /// A type that a plugin of the broker provides.
    case custom(String)

    var name: String {
        switch self {
        case .direct: "direct"
        case .fanout: "fanout"
        case .topic: "topic"
        case .headers: "headers"
        case .custom(let name): name
        }
    }
}
