public import AMQPPool
public import Logging
public import NIOCore
public import RPCContract
import Synchronization
import Tracing

/// The context of a message for its handler.
public struct WorkerContext: Sendable {
    private let message: WorkerMessage
    /// The number of this attempt, from 1.
    public let attempt: Int
    let outbox: Outbox

    init(_ message: WorkerMessage, attempt: Int, logger: Logger) {
        self.message = message
        self.attempt = attempt
        outbox = Outbox(logger: logger)
    }

    /// The queue it came from.
    public var queue: String { message.queue }
    /// When it first arrived at a worker: seconds since 1970.
    public var firstArrival: UInt64 { message.firstArrival }
    /// The body.
    public var body: ByteBuffer { message.delivery.body }
    /// The properties: id, headers, type.
    public var properties: MessageProperties { message.delivery.properties }
    /// The exchange it was published to; after an earlier attempt, the default exchange.
    public var exchange: String { message.delivery.exchange }
    /// The routing key it was published with; after an earlier attempt, the queue's name.
    public var routingKey: String { message.delivery.routingKey }
    /// Whether it may have been delivered before.
    public var redelivered: Bool { message.delivery.redelivered }
    /// A logger with the message's identity as metadata. Created on demand.
    public var logger: Logger {
        var logger = outbox.logger
        logger[metadataKey: "messaging.destination.name"] = "\(queue.escaped)"
        if let messageID { logger[metadataKey: "messaging.message.id"] = "\(messageID.escaped)" }
        return logger
    }

    /// The message's id, if its publisher set one.
    public var messageID: String? { message.delivery.properties.messageID }
    /// The message's headers.
    public var headers: FieldTable { message.delivery.properties.headers }

    /// Publishes a message when the handler has succeeded: only then, and confirmed before this message is acknowledged. If that fails,
    /// this message is retried. The published message is therefore sent at least once if this message is handled, and not at all if it is
    /// not.
    ///
    /// - Throws: `RPCCodecError` if the value cannot be encoded.
    public func publish<Value: Codable & Sendable & SendableMetatype>(
        _ value: Value,
        to queue: String
    ) throws(RPCCodecError) {
        let message = try OutgoingMessage(value, codec: JSONCodec<Value>())
        outbox.append(message.addressed(exchange: "", routingKey: queue))
    }

    /// Publishes an event when the handler has succeeded, like ``publish(_:to:)``.
    public func publish<Event: QueueEvent & SendableMetatype>(_ event: Event) throws(RPCCodecError) {
        var message = try OutgoingMessage(event, codec: JSONCodec<Event>())
        message.properties.type = Event.eventName
        // There may be no subscriber.
        outbox.append(message.addressed(exchange: EventExchange.name, routingKey: Event.eventName, mandatory: false))
    }

    /// Publishes a raw message when the handler has succeeded, like ``publish(_:to:)``.
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

/// The messages that a handler wants to publish after its success.
final class Outbox: Sendable {
    private struct State {
        var messages: [OutgoingMessage] = []
        /// For a message of a batch, whose handler runs in no span.
        var trace: ServiceContext?
    }

    let logger: Logger
    private let state = Mutex(State())

    init(logger: Logger) {
        self.logger = logger
    }

    func append(_ message: OutgoingMessage) {
        var message = message
        // Published after the handler's span has ended, but as a part of it.
        let trace = ServiceContext.current ?? state.withLock { $0.trace }
        WorkerTracing.inject(trace, into: &message.properties.headers)
        state.withLock { $0.messages.append(message) }
    }

    /// Uses the current span for messages published outside any span.
    func useCurrentTrace() {
        state.withLock { $0.trace = ServiceContext.current }
    }

    var all: [OutgoingMessage] { state.withLock { $0.messages } }
}
