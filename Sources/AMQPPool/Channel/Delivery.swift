public import NIOCore

/// A message that the broker delivered to a consumer, or sent in answer to a get.
public struct Delivery: Sendable {
    /// The tag of the consumer; empty for a message fetched by a get.
    public var consumerTag: String
    /// The argument for ``AMQPChannel/acknowledge(_:multiple:)``. Valid only on the channel it was delivered on.
    public var deliveryTag: UInt64
    /// Whether it may have been delivered before.
    ///
    /// `false` is not certain for messages of a classic queue on RabbitMQ 3.10 to 4.2: see <doc:ConsumingSafely>.
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

/// A delivery that is not accepted: its headers are nested too deeply or too many, its properties are malformed, or its body is larger than
/// ``ConnectionConfiguration/maximumIncomingMessageSize``.
package struct RefusedDelivery: Sendable {
    /// The queue it was consumed from.
    var queue: String
    /// Not yet settled if it is passed to a consumer.
    package var deliveryTag: UInt64
    package var redelivered: Bool
    package var exchange: String
    var routingKey: String
    /// The properties that could be read: if the headers are the reason, all others. They allow a reply to the sender.
    package var properties: MessageProperties?
    /// Why it was refused.
    package var reason: String
}

/// The state of a queue when it was declared.
public struct QueueStatus: Sendable, Hashable {
    /// The queue's name; chosen by the broker if none was given.
    public var name: String
    /// The number of messages ready for delivery.
    public var messageCount: Int
    /// The number of consumers of the queue.
    public var consumerCount: Int
}

/// How an exchange routes messages.
public enum ExchangeType: Sendable, Hashable {
    /// To queues bound with the same routing key.
    case direct
    /// To every bound queue.
    case fanout
    /// By patterns over the words of the routing key.
    case topic
    /// By the message's headers.
    case headers
    /// A type provided by a plugin of the broker.
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
