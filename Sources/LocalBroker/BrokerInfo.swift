/// A value in an AMQP field table, as reported by the broker.
public enum BrokerValue: Sendable, Hashable, Decodable {
    case null
    case bool(Bool)
    case integer(Int)
    case double(Double)
    case string(String)
    case array([BrokerValue])
    case table([String: BrokerValue])

    /// Decodes any JSON value.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .double(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([BrokerValue].self) {
            self = .array(value)
        } else {
            self = .table(try container.decode([String: BrokerValue].self))
        }
    }
}

/// The current state of a queue, as reported by its process in the broker.
public struct QueueInfo: Sendable, Hashable, Decodable {
    /// Unique in its virtual host.
    public var name: String
    /// The number of ready and unacknowledged messages.
    public var messages: Int
    /// The number of messages that wait for delivery.
    public var ready: Int
    /// The number of deliveries that are neither acknowledged nor rejected.
    public var unacknowledged: Int
    /// The number of consumers.
    public var consumers: Int
    /// Whether it survives a restart of the broker.
    public var durable: Bool
    /// Whether it is deleted with its last consumer.
    public var autoDelete: Bool
    /// Whether it belongs to one connection.
    public var exclusive: Bool
    /// The arguments of its declaration, for example "x-expires".
    public var arguments: [String: BrokerValue]
    /// "running", "idle", "flow", "down"...
    public var state: String
}

/// A consumer on a queue.
public struct ConsumerInfo: Sendable, Hashable, Decodable {
    /// The name of the queue.
    public var queue: String
    /// The consumer tag, chosen by the client or the broker.
    public var tag: String
    /// Whether deliveries have to be acknowledged.
    public var acknowledges: Bool
    /// The maximum number of its unacknowledged messages; 0 means no limit.
    public var prefetch: Int
    /// Whether it gets deliveries; with a single active consumer only one does.
    public var active: Bool
    /// The arguments of its declaration.
    public var arguments: [String: BrokerValue]
    /// ``ConnectionInfo/name`` of its connection.
    public var connection: String
    /// The number of its channel.
    public var channel: Int
}

/// An AMQP connection.
public struct ConnectionInfo: Sendable, Hashable, Decodable {
    /// The broker's name for it: "127.0.0.1:51234 -> 127.0.0.1:5672". Unique among open connections.
    public var name: String
    /// The client's `connection_name`; empty if it set none.
    public var clientName: String
    /// Its virtual host.
    public var virtualHost: String
    /// "running", "blocking" (an alarm is active, but it has not published since), "blocked", "closing"...
    public var state: String
    /// The number of open channels.
    public var channels: Int
    /// The client's TCP port.
    public var peerPort: Int
    /// The negotiated heartbeat interval in seconds; 0 means none.
    public var heartbeat: Int
    /// The client's properties.
    public var clientProperties: [String: BrokerValue]
}

/// An AMQP channel.
public struct ChannelInfo: Sendable, Hashable, Decodable {
    /// ``ConnectionInfo/name`` of its connection.
    public var connection: String
    /// Its number on the connection.
    public var number: Int
    /// Its virtual host.
    public var virtualHost: String
    /// The number of its consumers.
    public var consumers: Int
    /// The number of its deliveries that are neither acknowledged nor rejected.
    public var unacknowledged: Int
    /// The number of messages published on it that are not confirmed.
    public var unconfirmed: Int
    /// The limit of each of its consumers; 0 means no limit.
    public var prefetch: Int
    /// Whether it is in confirm mode.
    public var confirms: Bool
}

/// An exchange.
package struct ExchangeInfo: Sendable, Hashable, Decodable {
    /// Unique in its virtual host; empty for the default exchange.
    package var name: String
    /// "direct", "fanout", "topic", "headers"...
    package var type: String
    /// Whether it survives a restart of the broker.
    package var durable: Bool
    /// Whether it is deleted with its last binding.
    package var autoDelete: Bool
    /// Whether it accepts messages from other exchanges only.
    package var `internal`: Bool
    /// The arguments of its declaration.
    package var arguments: [String: BrokerValue]
}

/// A binding of a queue or an exchange to an exchange.
package struct BindingInfo: Sendable, Hashable, Decodable {
    /// The source exchange; empty for the default exchange.
    package var source: String
    /// The destination queue or exchange.
    package var destination: String
    /// "queue" or "exchange".
    package var destinationKind: String
    /// Empty if the exchange ignores it.
    package var routingKey: String
    /// The arguments of a headers binding.
    package var arguments: [String: BrokerValue]
}
