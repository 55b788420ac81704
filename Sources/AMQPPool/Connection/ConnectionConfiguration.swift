public import NIOCore
import NIOPosix

/// The settings of a connection and its channels. Each limit says what happens when it is reached.
public struct ConnectionConfiguration: Sendable {
    /// The name that the broker shows for the connection; `nil` sends none. At most 1,000 bytes.
    public var name: String?
    /// Provides user and password, once per attempt; `nil` uses those of the endpoint.
    public var credentials: CredentialsProvider?
    /// How connections to `amqps` endpoints are encrypted, and how the broker's certificate is verified.
    public var tls: TLSSettings
    /// The time limit for opening, from resolving the name to the broker's open-ok. Default 10 s.
    public var connectTimeout: Duration
    /// The requested heartbeat interval; the broker may ask for less. An interval in the endpoint's URI takes precedence. Default 10 s.
    public var heartbeat: Duration
    /// The requested maximum frame size, in bytes; the broker may ask for less. At least 8192, RabbitMQ's minimum since 4.1: a smaller
    /// setting counts as that. Default 128 KiB.
    public var maximumFrameSize: UInt32
    /// The requested maximum number of channels, 0 for no limit of the client; the broker may ask for less. Default 2047.
    public var maximumChannels: UInt16
    /// The time limit for a channel operation that does not have its own timeout. Default 10 s.
    public var operationTimeout: Duration
    /// How long closing waits for the broker's close-ok. Default 5 s.
    public var closeTimeout: Duration
    /// The largest body to publish, in bytes; larger ones are refused by the client. Default 16 MiB, the broker's own limit since 4.0.
    public var maximumMessageSize: Int
    /// The largest body to accept, in bytes; larger ones are rejected without requeue and counted. Default 128 MiB.
    public var maximumIncomingMessageSize: Int
    /// The maximum number of written and unconfirmed messages of one channel; further messages wait in the outbox. At least 1. Default
    /// 16,384.
    public var maximumUnconfirmed: Int
    /// The maximum number of messages and acknowledgements of one channel that wait to be written; further messages wait for room. At least
    /// 1. Default 65,536.
    public var maximumOutboxEntries: Int
    /// The maximum number of bytes of messages of one channel that wait to be written; further messages wait for room. Default 64 MiB.
    public var maximumOutboxBytes: Int
    /// The maximum number of operations of one channel that wait for their turn; further operations are refused. Default 1,024.
    public var maximumWaitingOperations: Int
    /// The event loops of the connections. A pool uses one of them, unless ``PoolConfiguration/spreadsOverEventLoops`` is set. Default: the
    /// process-wide singleton group. A group that is passed in must outlive the connection, and is never shut down by this library.
    public var eventLoopGroup: any EventLoopGroup

    /// Creates the resolver for each attempt; `nil` for the operating system's. Replaces DNS in tests.
    var makeResolver: (@Sendable (any EventLoop) -> any Resolver & Sendable)?

    /// The metrics to record to.
    var metrics: PoolMetrics?

    /// The minimum number of channels of a connection: with fewer, connecting fails.
    var requiredChannels: UInt16 = 1

    /// Creates a configuration. Each parameter sets the property of its name; without a group, the singleton is used.
    public init(
        name: String? = nil,
        credentials: CredentialsProvider? = nil,
        tls: TLSSettings = TLSSettings(),
        connectTimeout: Duration = .seconds(10),
        heartbeat: Duration = .seconds(10),
        maximumFrameSize: UInt32 = 131_072,
        maximumChannels: UInt16 = 2047,
        operationTimeout: Duration = .seconds(10),
        closeTimeout: Duration = .seconds(5),
        maximumMessageSize: Int = 16 * 1024 * 1024,
        maximumIncomingMessageSize: Int = 128 * 1024 * 1024,
        maximumUnconfirmed: Int = 16_384,
        maximumOutboxEntries: Int = 65_536,
        maximumOutboxBytes: Int = 64 * 1024 * 1024,
        maximumWaitingOperations: Int = 1024,
        eventLoopGroup: (any EventLoopGroup)? = nil
    ) {
        self.name = name
        self.credentials = credentials
        self.tls = tls
        self.connectTimeout = connectTimeout
        self.heartbeat = heartbeat
        self.maximumFrameSize = maximumFrameSize
        self.maximumChannels = maximumChannels
        self.operationTimeout = operationTimeout
        self.closeTimeout = closeTimeout
        self.maximumMessageSize = maximumMessageSize
        self.maximumIncomingMessageSize = maximumIncomingMessageSize
        self.maximumUnconfirmed = maximumUnconfirmed
        self.maximumOutboxEntries = maximumOutboxEntries
        self.maximumOutboxBytes = maximumOutboxBytes
        self.maximumWaitingOperations = maximumWaitingOperations
        self.eventLoopGroup = eventLoopGroup ?? MultiThreadedEventLoopGroup.singleton
    }
}

extension ChannelOutbox.Bounds {
    /// The limits of each channel of the connection.
    init(_ configuration: ConnectionConfiguration) {
        self.init(entries: configuration.maximumOutboxEntries, bytes: configuration.maximumOutboxBytes)
    }
}
