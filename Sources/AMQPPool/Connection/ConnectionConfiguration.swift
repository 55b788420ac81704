public import NIOCore
import NIOPosix

/// The settings of a connection and of the channels on it. Each bound says what happens when it is reached.
public struct ConnectionConfiguration: Sendable {
    /// The name the broker shows for the connection; nil sends none. At most 1,000 bytes.
    public var name: String?
    /// Where user and password come from, asked at each attempt; nil takes those of the endpoint.
    public var credentials: CredentialsProvider?
    /// How connections to `amqps` endpoints are encrypted, and whom they believe to be the broker.
    public var tls: TLSSettings
    /// How long opening may take, from resolving the name to the broker's open-ok. Default 10 s.
    public var connectTimeout: Duration
    /// The heartbeat interval to ask for; the broker may ask for less. An interval in the endpoint's URL wins. Default 10 s.
    public var heartbeat: Duration
    /// The largest frame to ask for, in bytes; the broker may ask for less. At least 8192, the least that RabbitMQ takes from 4.1
    /// on: a smaller setting counts as that. Default 128 KiB.
    public var maximumFrameSize: UInt32
    /// The largest number of channels to ask for, 0 for no limit of this side's; the broker may ask for less. Default 2047.
    public var maximumChannels: UInt16
    /// How long a channel operation waits for its answer, unless it names its own timeout. Default 10 s.
    public var operationTimeout: Duration
    /// How long closing waits for the broker's close-ok. Default 5 s.
    public var closeTimeout: Duration
    /// The largest body to publish, in bytes; a larger one is refused here. Default 16 MiB, the broker's own since 4.0.
    public var maximumMessageSize: Int
    /// The largest body to accept, in bytes; a larger one is rejected without requeue and counted. Default 128 MiB.
    public var maximumIncomingMessageSize: Int
    /// Messages of one channel that may be written and unconfirmed; more wait in the outbox. At least 1. Default 16,384.
    public var maximumUnconfirmed: Int
    /// Messages and acknowledgements of one channel that may wait to be written; more messages wait for room. At
    /// least 1. Default 65,536.
    public var maximumOutboxEntries: Int
    /// Bytes of messages of one channel that may wait to be written; more messages wait for room. Default 64 MiB.
    public var maximumOutboxBytes: Int
    /// Operations of one channel that may wait for their turn; more are refused. Default 1,024.
    public var maximumWaitingOperations: Int
    /// Where connections run: those of a pool on one event loop of it, see ``PoolConfiguration/spreadsOverEventLoops``. Default: the
    /// process-wide singleton group. A group passed in must outlive the connection, and is never shut down here.
    public var eventLoopGroup: any EventLoopGroup

    /// Who resolves names, made anew for each attempt; nil is the operating system. Takes the DNS's place in tests.
    var makeResolver: (@Sendable (any EventLoop) -> any Resolver & Sendable)?

    /// What is measured.
    package var metrics: PoolMetrics?

    /// How many channels a connection must be able to have: with fewer, connecting fails.
    var requiredChannels: UInt16 = 1

    /// The defaults where nothing else is given. Each parameter is the property of its name; no group of event loops is the singleton.
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
    /// Those of each channel of the connection.
    init(_ configuration: ConnectionConfiguration) {
        self.init(entries: configuration.maximumOutboxEntries, bytes: configuration.maximumOutboxBytes)
    }
}
