public import AMQPPool
public import Logging
public import NIOCore
public import RPCContract
import Synchronization

/// What a handler learns about its message.
public struct WorkerContext: Sendable {
    /// The queue it came from.
    public let queue: String
    /// Which attempt this is, from 1 on.
    public let attempt: Int
    /// When it first came to a worker: seconds since 1970.
    public let firstArrival: UInt64
    /// The message as it came.
    public let body: ByteBuffer
    /// Its properties: id, headers, type.
    public let properties: MessageProperties
    /// The exchange it was published to; of one that was tried before, the default exchange.
    public let exchange: String
    /// The routing key it was published with; of one that was tried before, the queue's name.
    public let routingKey: String
    /// Whether it may have been delivered before.
    public let redelivered: Bool
    /// Names the message in what is logged.
    public let logger: Logger
    let outbox: Outbox

    /// The message's id, if its publisher gave one.
    public var messageID: String? { properties.messageID }
    /// The message's headers.
    public var headers: FieldTable { properties.headers }

    /// Publishes a message when the handler has succeeded: only then, and confirmed before this message is acknowledged. If it fails,
    /// this message is tried again. So it is published at least once if this message is handled, and not at all if it is not.
    ///
    /// - Throws: If the value cannot be encoded.
    public func publish<Value: Codable & Sendable & SendableMetatype>(
        _ value: Value,
        to queue: String
    ) throws(RPCCodecError) {
        let message = try OutgoingMessage(value, codec: JSONCodec<Value>())
        outbox.append(message.addressed(exchange: "", routingKey: queue))
    }

    /// Publishes an event when the handler has succeeded, as ``publish(_:to:)`` does.
    public func publish<Event: QueueEvent & SendableMetatype>(_ event: Event) throws(RPCCodecError) {
        var message = try OutgoingMessage(event, codec: JSONCodec<Event>())
        message.properties.type = Event.eventName
        // Nobody may have subscribed.
        outbox.append(message.addressed(exchange: EventExchange.name, routingKey: Event.eventName, mandatory: false))
    }

    /// Publishes a raw message when the handler has succeeded, as ``publish(_:to:)`` does.
    public func publish(
        _ body: ByteBuffer,
        properties: MessageProperties = MessageProperties(),
        exchange: String = "",
        routingKey: String,
        mandatory: Bool = true
    ) {
        var message = OutgoingMessage(body: body, properties: properties)
        message.exchange = exchange
        message.routingKey = routingKey
        message.mandatory = mandatory
        outbox.append(message)
    }
}

/// What a handler wants published when it has succeeded.
final class Outbox: Sendable {
    private let messages = Mutex<[OutgoingMessage]>([])

    func append(_ message: OutgoingMessage) {
        var message = message
        // It is published after the handler's span has ended, and belongs to it.
        WorkerTracing.inject(into: &message.properties.headers)
        messages.withLock { $0.append(message) }
    }

    var all: [OutgoingMessage] { messages.withLock { $0 } }
}
