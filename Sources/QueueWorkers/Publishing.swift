public import AMQPPool
import Foundation
import NIOCore
public import RPCContract

extension OutgoingMessage {
    /// Creates a message without an address.
    init(body: ByteBuffer, properties: MessageProperties) {
        self.init(body, properties: properties, routingKey: "", mandatory: true)
    }

    /// Creates a persistent message with an id and the time.
    init<Codec: RPCCodec>(_ value: Codec.Value, codec: Codec) throws(RPCCodecError) {
        self.init(
            body: try codec.encode(value),
            properties: MessageProperties(
                contentType: codec.contentType,
                deliveryMode: .persistent,
                messageID: UUID().uuidString.lowercased(),
                timestamp: secondsSince1970()
            )
        )
    }

    func addressed(exchange: String, routingKey: String, mandatory: Bool = true) -> OutgoingMessage {
        var message = self
        message.exchange = exchange
        message.routingKey = routingKey
        message.mandatory = mandatory
        return message
    }
}

extension AMQPPool {
    /// Publishes a value to a queue as JSON, and returns when the broker has confirmed it: persistent, with a message id, the time and the
    /// trace context, and mandatory.
    ///
    ///     try await pool.publish(order, to: "orders")
    ///
    /// - Parameters:
    ///   - value: The message.
    ///   - queue: The queue, which must exist.
    ///   - id: The message's id, by which a worker recognises repetitions; `nil` generates one.
    ///   - headers: Additional headers.
    ///   - timeout: The time limit; `nil` for the pool's operation timeout.
    /// - Throws: `RPCCodecError` if it cannot be encoded; the `AMQPError`s of the pool's
    ///   `publish(_:properties:exchange:routingKey:mandatory:timeout:)`.
    public func publish<Value: Codable & Sendable & SendableMetatype>(
        _ value: Value,
        to queue: String,
        id: String? = nil,
        headers: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws {
        try await publish(value, codec: JSONCodec<Value>(), to: queue, id: id, headers: headers, timeout: timeout)
    }

    /// Publishes a value to a queue with a custom codec. Otherwise like ``publish(_:to:id:headers:timeout:)``.
    public func publish<Codec: RPCCodec>(
        _ value: Codec.Value,
        codec: Codec,
        to queue: String,
        id: String? = nil,
        headers: FieldTable = FieldTable(),
        timeout: Duration? = nil
    ) async throws {
        var message = try OutgoingMessage(value, codec: codec).addressed(exchange: "", routingKey: queue)
        if let id { message.properties.messageID = id }
        message.properties.headers = headers
        try await publish(message, timeout: timeout)
    }

    /// Publishes an event to its subscribers, and returns when the broker has confirmed it.
    ///
    ///     try await pool.publish(OrderPlaced(number: 42))
    ///
    /// An event without subscribers is dropped.
    public func publish<Event: QueueEvent & SendableMetatype>(_ event: Event, timeout: Duration? = nil) async throws {
        var message = try OutgoingMessage(event, codec: JSONCodec<Event>())
        message.properties.type = Event.eventName
        message = message.addressed(exchange: EventExchange.name, routingKey: Event.eventName, mandatory: false)
        try await publish(message, timeout: timeout)
    }

    func publish(_ message: OutgoingMessage, timeout: Duration?) async throws {
        var properties = message.properties
        WorkerTracing.inject(into: &properties.headers)
        guard let error = await send(message, properties, timeout) else { return }
        // Nobody has published or subscribed to an event before: there is no subscriber.
        guard error.replyCode == 404, message.exchange == EventExchange.name else { throw error }
        try await EventExchange.declare(on: self)
        if let error = await send(message, properties, timeout) { throw error }
    }

    private func send(
        _ message: OutgoingMessage,
        _ properties: MessageProperties,
        _ timeout: Duration?
    ) async -> AMQPError? {
        do throws(AMQPError) {
            try await publish(
                message.body,
                properties: properties,
                exchange: message.exchange,
                routingKey: message.routingKey,
                mandatory: message.mandatory,
                timeout: timeout
            )
            return nil
        } catch {
            return error
        }
    }
}

/// A message for its subscribers, published by type.
///
///     struct OrderPlaced: QueueEvent {
///         static let eventName = "order.placed"
///         var number: Int
///     }
public protocol QueueEvent: Codable, Sendable {
    /// The routing key of the events of this type: words separated by dots, by which others subscribe.
    static var eventName: String { get }
}

/// The exchange of events.
enum EventExchange {
    /// A durable topic exchange; the routing key is the event's name.
    static let name = "events"

    static func declare(on pool: AMQPPool) async throws {
        try await pool.withDedicatedChannel { channel in
            try await channel.declareExchange(name, type: .topic, durable: true)
        }
    }
}
