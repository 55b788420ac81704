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

/// A delivery that is not handed on: its headers are nested too deeply or too many, its properties break the protocol, or its body
/// is larger than ``ConnectionConfiguration/maximumIncomingMessageSize``.
package struct RefusedDelivery: Sendable {
    /// The queue it was consumed from.
    package var queue: String
    /// Not settled yet where a consumer is given it.
    package var deliveryTag: UInt64
    package var redelivered: Bool
    package var exchange: String
    package var routingKey: String
    /// All that could be read of its properties: where the headers are the reason, the others. Who sent it may be answered.
    package var properties: MessageProperties?
    /// Why it is refused.
    package var reason: String
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
