public import Metrics
import NIOCore
public import Supervision

/// The settings of a pool.
public struct PoolConfiguration: Sendable {
    /// The brokers to connect to. Each connection tries them round robin, one endpoint per attempt.
    public var endpoints: [Endpoint]
    /// Whether each connection shuffles the endpoints for each round, so that the connections of many processes spread over the brokers.
    /// Default false.
    public var shufflesEndpoints: Bool
    /// The number of connections. Default 2: with only one, its loss would leave no connection.
    public var connections: Int
    /// The number of additional connections that are used for consuming only: by ``Consumer``s, queue workers, and
    /// ``AMQPPool/withDeliveries(of:prefetch:exclusive:arguments:missingQueue:onOpen:_:)``. Default 0: they use the connections for
    /// publishing.
    ///
    /// During a memory or disk alarm a broker stops reading from every connection that publishes, including the acknowledgements on it.
    /// Connections that only consume keep working: handled messages are acknowledged, and the queues that may have caused the alarm become
    /// shorter. While these connections are lost, consumers wait for them, and do not use others. Callers and receivers publish on the
    /// connections they consume on, and use the others.
    public var consumerConnections: Int
    /// The number of channels per connection. Default 1.
    public var channelsPerConnection: Int
    /// Whether the connections spread over all event loops of ``ConnectionConfiguration/eventLoopGroup``. Default false: the connections of
    /// a pool share one event loop, which also handles replies and deadlines, so that a message is processed by one thread instead of
    /// several. One event loop is limited by one core, at a hundred thousand small messages a second and more; enable this when large
    /// messages or encryption need more than one core.
    public var spreadsOverEventLoops: Bool
    /// The maximum number of concurrent bodies of ``AMQPPool/withDedicatedChannel(timeout:isolation:_:)``; further ones wait for their
    /// turn. Default 100, far below the 2047 channels that a broker allows per connection.
    public var maximumDedicatedChannels: Int
    /// The settings of each connection. The connection's number is appended to its name.
    public var connection: ConnectionConfiguration
    /// How long to wait between attempts to connect, and before a lost connection or channel is reopened. Default: 100 ms to 5 s, with full
    /// jitter.
    public var backoff: Backoff
    /// What to do when a broker refuses the first connection: see ``BootPolicy``. Default: keep trying.
    public var boot: BootPolicy
    /// How long a channel that is stopped may take to finish its work and close. At most half of it is reserved for closing; unfinished
    /// work is abandoned then. Default 5 s.
    public var channelShutdown: Duration
    /// How long a killed connection or channel may take for its closing handshake. If the broker does not answer in this time, unconfirmed
    /// messages are in doubt. Default 1 s.
    public var killTimeout: Duration

    /// Whether published and handled messages are traced, and by which tracer. Default: the tracer that `InstrumentationSystem` was
    /// bootstrapped with when the pool is created.
    public var tracing: AMQPTracing
    /// The factory for metrics; `nil` for the one that `MetricsSystem` was bootstrapped with when the pool is created.
    public var metricsFactory: (any MetricsFactory)?

    /// Creates a configuration for these endpoints. Each parameter sets the property of its name.
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

    /// These settings with the pool's shared event loop chosen, unless its connections spread.
    func withEventLoop() -> PoolConfiguration {
        guard !spreadsOverEventLoops else { return self }
        var settings = self
        settings.connection.eventLoopGroup = connection.eventLoopGroup.next()
        return settings
    }

    /// These settings for channels on the connections of another pool, with that pool's connection settings.
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
