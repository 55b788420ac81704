public import AMQPPool
public import RPCCaller
public import RPCReceiver

/// The settings of an ``RPCActorSystem``.
public struct RPCActorConfiguration: Sendable {
    /// The connections of the whole system; not used with a shared pool.
    public var pool: PoolConfiguration
    /// The settings of calls: timeout, limits, interceptors, tracing, metrics. Replies are delivered through a queue; the settings of
    /// connections are ignored.
    public var caller: RPCCallerConfiguration
    /// The settings of requests for the service's actors. Those of queues, bindings and connections are ignored.
    public var receiver: RPCReceiverConfiguration
    /// How many requests for the node's own and for virtual actors may run or wait for their turn. Default 10,000: actors that call each
    /// other wait for each other, and must not wait for a slot.
    public var nodeConcurrency: Int
    /// How long the broker keeps a request for a node that does not take it, before it returns it to its caller: a call to a lost node ends
    /// within this time. Default 1 s; with less, requests for a node that is merely busy are returned too.
    public var bounceAfter: Duration

    /// How long a call to a node waits before the node's queue is checked, and the time between checks.
    var nodeCheckInterval = Duration.seconds(5)
    /// The settings of the node's last will.
    var life = LifeSettings()

    struct LifeSettings: Sendable {
        var timeToLive = Duration.seconds(1)
        var expiry = Duration.seconds(60)
        var renewal = Duration.seconds(20)
        /// How often the node's queue is checked.
        var check = Duration.seconds(5)

        init() {}
    }

    /// Creates a configuration. Each parameter sets the property of its name; `endpoints` replaces those of the pool, even if one is given.
    public init(
        endpoints: [Endpoint] = [],
        pool: PoolConfiguration = PoolConfiguration(endpoints: []),
        caller: RPCCallerConfiguration = RPCCallerConfiguration(endpoints: [], timeout: .seconds(30)),
        receiver: RPCReceiverConfiguration = RPCReceiverConfiguration(endpoints: [], concurrency: 64),
        nodeConcurrency: Int = 10_000,
        bounceAfter: Duration = .seconds(1)
    ) {
        self.pool = pool
        if !endpoints.isEmpty { self.pool.endpoints = endpoints }
        self.caller = caller
        self.receiver = receiver
        self.nodeConcurrency = nodeConcurrency
        self.bounceAfter = bounceAfter
    }

    /// The exchange that returns requests to their callers.
    static let bounceExchange = "rpc.bounced"
    /// How long a node's queue exists after the node is lost: until then a call to it is returned, after that it is unroutable.
    static let queueExpiry = Duration.seconds(60)
}
