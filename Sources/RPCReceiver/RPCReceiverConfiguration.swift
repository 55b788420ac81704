public import AMQPPool
public import Metrics
public import RPCWire
public import Supervision

/// The settings of a receiver.
public struct RPCReceiverConfiguration: Sendable {
    /// The connections and channels, and how they are reopened. The receiver sets the time that stopping a channel may take.
    public var pool: PoolConfiguration
    /// The names on the wire, and whether a missing queue or exchange is declared.
    public var names: RPCNames
    /// Which requests the exchange routes to the service's queue. Default: all whose destination is the service.
    ///
    /// Bindings are only ever added: a binding declared by an earlier version of the service stays until somebody removes it. Without any
    /// binding the queue gets what is sent to it by name, through the default exchange; the requests' exchange is not used then.
    public var bindings: [RPCBinding]
    /// The queue's name, if it is not derived from ``names``: for callers that address the queue directly.
    public var queue: String?
    /// Whether the queue survives a restart of the broker. Set it to false only for a queue that somebody else has declared so. Default
    /// true.
    public var queueIsDurable: Bool
    /// The arguments of the service's queue, for example `["x-queue-type": "quorum"]`. Default: none, so that an existing queue is not
    /// refused.
    public var queueArguments: FieldTable
    /// How many requests run concurrently, which also limits the unanswered deliveries. Default 10.
    public var concurrency: Int
    /// What happens to calls while `concurrency` requests are running. Default: they wait in the service's queue.
    public var whenBusy: WhenBusy
    /// Whether repeated requests are recognised, and answered without running their handler again. Default: they are not.
    public var deduplication: RPCDeduplication?
    /// The time limit of a handler, whatever its caller allows. It must be shorter than the broker's consumer timeout, which is 30 minutes
    /// by default. Default 10 minutes.
    public var handlerTimeLimit: Duration
    /// How long a stop waits for requests in flight. Unanswered ones are redelivered afterwards. Default 30 s.
    public var drainTimeout: Duration
    /// What happens to a request whose handler failed with an error of its own.
    public var onFailure: RPCFailurePolicy
    /// The number of deliveries without an answer after which a request is given up, on queues that count them (quorum). Default 20.
    public var deliveryLimit: Int
    /// The contract of the service. A receiver does not start when a procedure of it is missing or has other types. Default: no contract.
    public var contract: (any RPCService.Type)?
    /// Whether callers may ask for the description of the service: `rpc.describe`, which `rpc describe` calls. Default true.
    public var describesItself: Bool
    /// Which queues replies may be sent to. Default: any but request queues.
    public var replyQueues: RPCReplyQueues
    /// Whether a failure of a service that a handler called, and did not catch, is passed on to this service's caller unchanged. Default
    /// false: the caller gets `upstream_failure`, with the other service's code in the details.
    public var passesUpstreamFailures: Bool
    /// How often the exchange, the queue and its bindings are checked; missing ones are declared again. Default 5 s.
    public var topologyCheckInterval: Duration
    /// Whether callers get the text of a handler's own error, which may contain internals of the receiver. Default false.
    public var exposesErrors: Bool
    /// How many restarts the receiver's tree allows before it gives up. Default: 3 in 5 s.
    public var intensity: RestartIntensity

    /// The interceptors of requests; the first is the outermost. Default: none.
    public var interceptors: [any RPCReceiverInterceptor]
    /// Whether requests are traced, and by which tracer. Default: the one that `InstrumentationSystem` was bootstrapped with.
    public var tracing: AMQPTracing
    /// The factory for metrics; `nil` for the one that `MetricsSystem` was bootstrapped with when the receiver is created.
    public var metricsFactory: (any MetricsFactory)?

    /// Provides the queue's name for each incarnation of the tree.
    package var queueName: (@Sendable () -> String)?
    /// The prefetch of each channel, independent of `concurrency`; 0 for no limit.
    package var channelPrefetch: UInt16?
    /// Whether a stop of the receiver answers requests in flight before it closes; otherwise they are requeued immediately. Called when it
    /// stops.
    package var drains: @Sendable () -> Bool = { true }

    /// Creates a configuration. Each parameter sets the property of its name; `endpoints` are those of its own pool, in place of those of
    /// `pool`. A receiver on a shared pool needs none, since the pool has its own.
    public init(
        endpoints: [Endpoint] = [],
        pool: PoolConfiguration? = nil,
        names: RPCNames = RPCNames(),
        bindings: [RPCBinding] = [.service],
        queue: String? = nil,
        queueIsDurable: Bool = true,
        queueArguments: FieldTable = FieldTable(),
        concurrency: Int = 10,
        whenBusy: WhenBusy = WhenBusy.leaveInQueue,
        deduplication: RPCDeduplication? = nil,
        handlerTimeLimit: Duration = .seconds(600),
        drainTimeout: Duration = .seconds(30),
        onFailure: RPCFailurePolicy = RPCFailurePolicy.acknowledge,
        deliveryLimit: Int = 20,
        contract: (any RPCService.Type)? = nil,
        describesItself: Bool = true,
        replyQueues: RPCReplyQueues = RPCReplyQueues.notRequestQueues,
        passesUpstreamFailures: Bool = false,
        topologyCheckInterval: Duration = .seconds(5),
        exposesErrors: Bool = false,
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        interceptors: [any RPCReceiverInterceptor] = [],
        tracing: AMQPTracing = AMQPTracing.automatic,
        metricsFactory: (any MetricsFactory)? = nil
    ) {
        self.pool = pool ?? PoolConfiguration(endpoints: endpoints)
        if !endpoints.isEmpty { self.pool.endpoints = endpoints }
        self.names = names
        self.bindings = bindings
        self.queue = queue
        self.queueIsDurable = queueIsDurable
        self.queueArguments = queueArguments
        self.concurrency = concurrency
        self.whenBusy = whenBusy
        self.deduplication = deduplication
        self.handlerTimeLimit = handlerTimeLimit
        self.drainTimeout = drainTimeout
        self.onFailure = onFailure
        self.deliveryLimit = deliveryLimit
        self.contract = contract
        self.describesItself = describesItself
        self.replyQueues = replyQueues
        self.passesUpstreamFailures = passesUpstreamFailures
        self.topologyCheckInterval = topologyCheckInterval
        self.exposesErrors = exposesErrors
        self.intensity = intensity
        self.interceptors = interceptors
        self.tracing = tracing
        self.metricsFactory = metricsFactory
    }

    /// What happens to calls when the concurrency limit is reached.
    public enum WhenBusy: Sendable, Hashable {
        /// They wait in the service's queue, for this instance or another, until their callers' deadlines.
        case leaveInQueue
        /// Up to `waiting` calls wait here; further calls are answered with `RPCFailure.Code.overloaded` immediately, so that their callers
        /// can use another service or give up. Casts are never shed: they wait in the queue.
        case shed(waiting: Int)
    }

    /// Whether the queue counts deliveries, according to the arguments: quorum queues do, classic ones do not.
    var brokerCountsDeliveries: Bool? {
        switch queueArguments["x-queue-type"] {
        case .string("quorum"): true
        case .string: false
        // The queue was declared elsewhere, or the virtual host has a default queue type.
        case .bool, .int8, .uint8, .int16, .uint16, .int32, .uint32, .int64, .uint64, .float, .double, .decimal,
            .bytes, .array, .timestamp, .table, .void, nil:
            names.declares ? false : nil
        }
    }

    /// How many calls may wait in this process before others are shed; `nil` if none is shed.
    var maximumWaiting: Int? {
        if case .shed(let waiting) = whenBusy { max(0, waiting) } else { nil }
    }

    private static let largestPrefetch = 1 << 24

    /// The number of unanswered deliveries on all channels together.
    var prefetch: Int {
        // Clamped to what the broker can deliver on all channels together.
        let concurrency = min(max(1, concurrency), Self.largestPrefetch)
        // To be shed, calls must be delivered while others are running.
        return maximumWaiting.map { 2 * concurrency + min($0, Self.largestPrefetch) } ?? concurrency
    }
}
