public import AMQPPool
public import Logging
public import NIOCore
public import RPCContract
import Synchronization
import Tracing

/// What a handler learns about its message.
public struct WorkerContext: Sendable {
    private let message: WorkerMessage
    /// Which attempt this is, from 1 on.
    public let attempt: Int
    let outbox: Outbox

    init(_ message: WorkerMessage, attempt: Int, logger: Logger) {
        self.message = message
        self.attempt = attempt
        outbox = Outbox(logger: logger)
    }

    /// The queue it came from.
    public var queue: String { message.queue }
    /// When it first came to a worker: seconds since 1970.
    public var firstArrival: UInt64 { message.firstArrival }
    /// The message as it came.
    public var body: ByteBuffer { message.delivery.body }
    /// Its properties: id, headers, type.
    public var properties: MessageProperties { message.delivery.properties }
    /// The exchange it was published to; of one that was tried before, the default exchange.
    public var exchange: String { message.delivery.exchange }
    /// The routing key it was published with; of one that was tried before, the queue's name.
    public var routingKey: String { message.delivery.routingKey }
    /// Whether it may have been delivered before.
    public var redelivered: Bool { message.delivery.redelivered }
    /// Names the message in what is logged. Made when it is asked for.
    public var logger: Logger {
        var logger = outbox.logger
        logger[metadataKey: "messaging.destination.name"] = "\(queue.escaped)"
        if let messageID { logger[metadataKey: "messaging.message.id"] = "\(messageID.escaped)" }
        return logger
    }

    /// The message's id, if its publisher gave one.
    public var messageID: String? { message.delivery.properties.messageID }
    /// The message's headers.
    public var headers: FieldTable { message.delivery.properties.headers }

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
    private struct State {
        var messages: [OutgoingMessage] = []
        /// Of a message of a batch, whose handler runs in no span.
        var trace: ServiceContext?
    }

    let logger: Logger
    private let state = Mutex(State())

    init(logger: Logger) {
        self.logger = logger
    }

    func append(_ message: OutgoingMessage) {
        var message = message
        // It is published after the handler's span has ended, and belongs to it.
        let trace = ServiceContext.current ?? state.withLock { $0.trace }
        WorkerTracing.inject(trace, into: &message.properties.headers)
        state.withLock { $0.messages.append(message) }
    }

    /// What is published outside of any span belongs to this one.
    func useCurrentTrace() {
        state.withLock { $0.trace = ServiceContext.current }
    }

    var all: [OutgoingMessage] { state.withLock { $0.messages } }
}
