public import AMQPPool
public import RPCCaller
public import RPCReceiver

/// The settings of an ``RPCActorSystem``.
public struct RPCActorConfiguration: Sendable {
    /// The connections, which everything in the system shares; not used on a pool that is shared with others.
    public var pool: PoolConfiguration
    /// How calls are made: timeout, limits, interceptors, tracing, metrics. Replies come to a queue; what concerns connections is ignored.
    public var caller: RPCCallerConfiguration
    /// How requests for the actors of the service are run. What concerns queues, bindings and connections is ignored.
    public var receiver: RPCReceiverConfiguration
    /// How many requests for the node's own and for virtual actors may run or wait for their turn at once. Default 10,000: actors that call
    /// each other wait for each other, and must not wait for a place.
    public var nodeConcurrency: Int
    /// How long the broker keeps a request for a node that does not take it, before it sends it back to its caller: a call at a node that
    /// is lost ends within this time. Default 1 s; less makes requests for a node that is only busy come back too.
    public var bounceAfter: Duration

    /// How long a call at a node waits before it is looked whether the node's queue is still there, and how long until it is looked again.
    package var nodeCheckInterval = Duration.seconds(5)
    /// How the node's last will is kept.
    package var life = LifeSettings()

    package struct LifeSettings: Sendable {
        package var timeToLive = Duration.seconds(1)
        package var expiry = Duration.seconds(60)
        package var renewal = Duration.seconds(20)
        /// How often it is looked whether the broker has the node's queue.
        package var check = Duration.seconds(5)

        package init() {}
    }

    /// The defaults where nothing else is given. Each parameter is the property of its name; `endpoints` are those of the pool, also when
    /// that is given.
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

    /// The exchange that sends requests back to their callers.
    static let bounceExchange = "rpc.bounced"
    /// How long a node's queue stays when the node is gone: until then a call to it comes back, after that it is unroutable.
    static let queueExpiry = Duration.seconds(60)
}
