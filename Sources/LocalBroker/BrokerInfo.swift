/// A value in an AMQP field table, as the broker tells it.
public enum BrokerValue: Sendable, Hashable, Decodable {
    case null
    case bool(Bool)
    case integer(Int)
    case double(Double)
    case string(String)
    case array([BrokerValue])
    case table([String: BrokerValue])

    /// Reads any JSON value.
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

/// A queue, as its own process in the broker sees it at this moment.
public struct QueueInfo: Sendable, Hashable, Decodable {
    /// Unique in its virtual host.
    public var name: String
    /// Ready and unacknowledged messages together.
    public var messages: Int
    /// Messages that wait to be delivered.
    public var ready: Int
    /// Messages that were delivered to a consumer, and neither acknowledged nor rejected yet.
    public var unacknowledged: Int
    /// How many consume it.
    public var consumers: Int
    /// Survives a restart of the broker.
    public var durable: Bool
    /// Is deleted when its last consumer goes.
    public var autoDelete: Bool
    /// Belongs to one connection.
    public var exclusive: Bool
    /// What it was declared with, as "x-expires".
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
    /// Whether deliveries are acknowledged by hand.
    public var acknowledges: Bool
    /// How many unacknowledged messages it may have; 0 is unlimited.
    public var prefetch: Int
    /// Whether it gets deliveries, which with a single active consumer only one does.
    public var active: Bool
    /// What it was declared with.
    public var arguments: [String: BrokerValue]
    /// ``ConnectionInfo/name`` of the connection that consumes.
    public var connection: String
    /// The number of the channel that consumes.
    public var channel: Int
}

/// An AMQP connection.
public struct ConnectionInfo: Sendable, Hashable, Decodable {
    /// The broker's name for it: "127.0.0.1:51234 -> 127.0.0.1:5672". Unique among open connections.
    public var name: String
    /// What the client called itself in `connection_name`; empty if it did not.
    public var clientName: String
    /// The virtual host it is in.
    public var virtualHost: String
    /// "running", "blocking" (an alarm is set, but it has not published since), "blocked", "closing"...
    public var state: String
    /// How many channels are open on it.
    public var channels: Int
    /// The client's TCP port.
    public var peerPort: Int
    /// The negotiated heartbeat in seconds; 0 is none.
    public var heartbeat: Int
    /// What the client told of itself.
    public var clientProperties: [String: BrokerValue]
}

/// An AMQP channel.
public struct ChannelInfo: Sendable, Hashable, Decodable {
    /// ``ConnectionInfo/name`` of its connection.
    public var connection: String
    /// Its number on the connection.
    public var number: Int
    /// The virtual host it is in.
    public var virtualHost: String
    /// How many consumers it has.
    public var consumers: Int
    /// Deliveries on it that were neither acknowledged nor rejected yet.
    public var unacknowledged: Int
    /// Messages published on it that were not confirmed yet.
    public var unconfirmed: Int
    /// The limit for each of its consumers; 0 is unlimited.
    public var prefetch: Int
    /// Whether publishes on it are confirmed.
    public var confirms: Bool
}

/// An exchange.
public struct ExchangeInfo: Sendable, Hashable, Decodable {
    /// Unique in its virtual host; empty for the default exchange.
    public var name: String
    /// "direct", "fanout", "topic", "headers"...
    public var type: String
    /// Survives a restart of the broker.
    public var durable: Bool
    /// Is deleted when its last binding goes.
    public var autoDelete: Bool
    /// Takes messages from other exchanges only.
    public var `internal`: Bool
    /// What it was declared with.
    public var arguments: [String: BrokerValue]
}

/// A binding of a queue or an exchange to an exchange.
public struct BindingInfo: Sendable, Hashable, Decodable {
    /// The exchange messages come from; empty for the default exchange.
    public var source: String
    /// The queue or exchange they go to.
    public var destination: String
    /// "queue" or "exchange".
    public var destinationKind: String
    /// Empty where the exchange ignores it.
    public var routingKey: String
    /// What a headers exchange compares.
    public var arguments: [String: BrokerValue]
}
