public import Metrics
import NIOCore
public import Supervision

/// The settings of a pool.
public struct PoolConfiguration: Sendable {
    /// The brokers to connect to. Each connection walks the list round robin, one endpoint an attempt.
    public var endpoints: [Endpoint]
    /// Whether each connection walks the list in an order of its own, shuffled anew for each round, so that the connections of
    /// many processes spread over the brokers. Default no.
    public var shufflesEndpoints: Bool
    /// How many connections. Default 2: with one, a lost connection leaves nothing.
    public var connections: Int
    /// How many connections more there are for what only consumes: ``Consumer``s, workers of queues,
    /// ``AMQPPool/withDeliveries(of:prefetch:exclusive:arguments:missingQueue:onOpen:_:)``. Default 0: they use those that are published on.
    ///
    /// A broker with an alarm of its memory or disk stops reading from every connection that publishes, the acknowledgements on it
    /// included. On a connection that nothing is published on it goes on: what is handled is acknowledged, and the queues whose length may
    /// be the reason of the alarm become shorter. While the connections for consuming are lost, consumers wait for them, and do
    /// not move to others. Callers and receivers publish on what they consume on, and are on the others.
    public var consumerConnections: Int
    /// How many channels each connection carries. Default 1.
    public var channelsPerConnection: Int
    /// Whether the connections run on as many event loops as ``ConnectionConfiguration/eventLoopGroup`` has. Default no: the
    /// connections of a pool share one of them, and what waits for replies and deadlines is on it too, so that a message meets one
    /// thread and not several. One loop moves what one core can, a hundred thousand small messages a second and more; set this where large
    /// messages or encryption need more than a core.
    public var spreadsOverEventLoops: Bool
    /// How many bodies of ``AMQPPool/withDedicatedChannel(timeout:isolation:_:)`` may have a channel at once; more wait for their
    /// turn. Default 100, far below the 2047 channels that a broker allows a connection.
    public var maximumDedicatedChannels: Int
    /// The settings of each connection. Its name gets the connection's number behind it.
    public var connection: ConnectionConfiguration
    /// How long to wait between attempts to connect, and before a lost connection or channel is opened again. Default:
    /// 100 ms to 5 s, with full jitter.
    public var backoff: Backoff
    /// What a broker's refusal at the first connect means: see ``BootPolicy``. Default: it keeps trying.
    public var boot: BootPolicy
    /// How long a channel that is stopped may take to finish its work and close. Half of it at most is kept for closing, and what
    /// is unfinished then is left. Default 5 s.
    public var channelShutdown: Duration
    /// How long a killed connection or channel may take for its closing handshake. When the broker does not answer in this
    /// time, what is unconfirmed is in doubt. Default 1 s.
    public var killTimeout: Duration

    /// Whether what the pool publishes and consumers handle becomes spans, and whose. Default: what `InstrumentationSystem` was
    /// bootstrapped with when the pool is made.
    public var tracing: AMQPTracing
    /// Where metrics go; `nil` is what `MetricsSystem` was bootstrapped with when the pool is made.
    public var metricsFactory: (any MetricsFactory)?

    /// The defaults where nothing else is given, for these endpoints. Each parameter is the property of its name.
    public init(
        endpoints: [Endpoint],
        shufflesEndpoints: Bool = false,
        connections: Int = 2,
        consumerConnections: Int = 0,
        channelsPerConnection: Int = 1,
        spreadsOverEventLoops: Bool = false,
        maximumDedicatedChannels: Int = 100,
        connection: ConnectionConfiguration = ConnectionConfiguration(),
        backoff: Backoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 1),
        boot: BootPolicy = BootPolicy.keepTrying,
        channelShutdown: Duration = .seconds(5),
        killTimeout: Duration = .seconds(1),
        tracing: AMQPTracing = AMQPTracing.automatic,
        metricsFactory: (any MetricsFactory)? = nil
    ) {
        self.endpoints = endpoints
        self.shufflesEndpoints = shufflesEndpoints
        self.connections = connections
        self.consumerConnections = consumerConnections
        self.channelsPerConnection = channelsPerConnection
        self.spreadsOverEventLoops = spreadsOverEventLoops
        self.maximumDedicatedChannels = maximumDedicatedChannels
        self.connection = connection
        self.backoff = backoff
        self.boot = boot
        self.channelShutdown = channelShutdown
        self.killTimeout = killTimeout
        self.tracing = tracing
        self.metricsFactory = metricsFactory
    }

    /// These settings with the event loop chosen that the pool's connections share, unless they are to spread.
    package func withEventLoop() -> PoolConfiguration {
        guard !spreadsOverEventLoops else { return self }
        var settings = self
        settings.connection.eventLoopGroup = connection.eventLoopGroup.next()
        return settings
    }

    /// These settings for channels on the connections of another pool: what concerns connections is as it is there.
    package func onConnections(of pool: AMQPPool?) -> PoolConfiguration {
        guard let pool else { return withEventLoop() }
        var settings = self
        settings.endpoints = pool.configuration.endpoints
        settings.shufflesEndpoints = pool.configuration.shufflesEndpoints
        settings.boot = pool.configuration.boot
        settings.connections = pool.configuration.connections
        settings.consumerConnections = 0
        settings.connection = pool.configuration.connection
        settings.spreadsOverEventLoops = pool.configuration.spreadsOverEventLoops
        return settings
    }
}
