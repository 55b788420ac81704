public import AMQPPool
public import Metrics
public import RPCWire
public import Supervision

/// The settings of a receiver.
public struct RPCReceiverConfiguration: Sendable {
    /// The connections and channels, and how they are opened again. The receiver sets the time that stopping a channel takes.
    public var pool: PoolConfiguration
    /// The names on the wire, and whether the queue and the exchange are created when they are missing.
    public var names: RPCNames
    /// Which requests the service's queue takes. Default: all whose destination is the service.
    ///
    /// Bindings are only ever added: one that an earlier version of the service declared stays until somebody removes it. Without
    /// any the queue gets what is sent to it by name, through the default exchange; the requests' exchange is not touched then.
    public var bindings: [RPCBinding]
    /// The queue's name, if it is not the one that ``names`` give it: for callers that know a queue and nothing of services.
    public var queue: String?
    /// Whether the queue survives a restart of the broker. Only one that somebody else declared otherwise is not. Default true.
    public var queueIsDurable: Bool
    /// What the service's queue is declared with, such as `["x-queue-type": "quorum"]`. Default: nothing, so that a queue that
    /// is there already is not refused.
    public var queueArguments: FieldTable
    /// How many requests run at once, and how many the broker hands over before they are answered. Default 10.
    public var concurrency: Int
    /// What becomes of calls when `concurrency` requests run. Default: they wait in the service's queue.
    public var whenBusy: WhenBusy
    /// Whether repetitions of a request are recognised, and answered without running its handler again. Default: not.
    public var deduplication: RPCDeduplication?
    /// How long a handler may take, whatever its caller allows. It must be shorter than the broker's consumer timeout, which is
    /// 30 minutes unless configured. Default 10 minutes.
    public var handlerTimeLimit: Duration
    /// How long stopping waits for requests that are being answered. What is not answered then is redelivered. Default 30 s.
    public var drainTimeout: Duration
    /// What becomes of a request whose handler failed with an error of its own.
    public var onFailure: RPCFailurePolicy
    /// How many deliveries without an answer make a request be given up, on queues that count them (quorum). Default 20.
    public var deliveryLimit: Int
    /// What the service has to answer. A receiver that misses a procedure of it, or has it with other types, does not start. Default:
    /// nothing is declared.
    public var contract: (any RPCService.Type)?
    /// Whether callers may ask what the service answers: `rpc.describe`, which `rpc describe` calls. Default true.
    public var describesItself: Bool
    /// Which queues replies are sent to. Default: any but those that requests wait in.
    public var replyQueues: RPCReplyQueues
    /// Whether a failure of a service that a handler called, and that the handler did not catch, is handed on to this service's caller as it
    /// is. Default false: the caller gets `upstream_failure`, with the other service's code in the details.
    public var passesUpstreamFailures: Bool
    /// How often it is looked whether the exchange, the queue and its bindings are still there; what is missing is declared again.
    /// Default 5 s.
    public var topologyCheckInterval: Duration
    /// Whether callers get the text of a handler's own error, which may tell what only the receiver should know. Default false.
    public var exposesErrors: Bool
    /// How many restarts the receiver's tree allows before it gives up. Default: 3 in 5 s.
    public var intensity: RestartIntensity

    /// What stands around each request that is run; the first is the outermost. Default: nothing.
    public var interceptors: [any RPCReceiverInterceptor]
    /// Whether requests become spans, and whose. Default: what `InstrumentationSystem` was bootstrapped with.
    public var tracing: RPCTracing
    /// Where metrics go; `nil` is what `MetricsSystem` was bootstrapped with when the receiver is made.
    public var metricsFactory: (any MetricsFactory)?

    /// The queue's name, asked for anew by each incarnation of the tree.
    package var queueName: (@Sendable () -> String)?
    /// How many requests the broker hands to each channel before they are answered, whatever `concurrency` is; 0: any number.
    package var channelPrefetch: UInt16?
    /// Whether a stop of the receiver answers what is in flight before it closes; `false`: the broker gets it back at once. Asked when it
    /// stops.
    package var drains: @Sendable () -> Bool = { true }

    /// The defaults where nothing else is given, for these endpoints. Each parameter is the property of its name.
    public init(
        endpoints: [Endpoint],
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
        tracing: RPCTracing = RPCTracing.automatic,
        metricsFactory: (any MetricsFactory)? = nil
    ) {
        self.pool = pool ?? PoolConfiguration(endpoints: endpoints)
        if pool != nil { self.pool.endpoints = endpoints }
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

    /// The defaults, for a receiver on a pool that others share: its endpoints are that pool's.
    public init() {
        self.init(endpoints: [])
    }

    /// What becomes of calls when as many requests run as may.
    public enum WhenBusy: Sendable, Hashable {
        /// They wait in the service's queue, for this instance or another, until their callers' deadlines.
        case leaveInQueue
        /// Up to `waiting` wait here; those that come then are answered with `RPCFailure.Code.overloaded` at once,
        /// so that their callers can go elsewhere or give up instead of waiting. Casts are never shed: they wait in the queue.
        case shed(waiting: Int)
    }

    /// Whether the queue counts deliveries, as far as the arguments say: quorum queues do, classic ones do not.
    var brokerCountsDeliveries: Bool? {
        switch queueArguments["x-queue-type"] {
        case .string("quorum"): true
        case .string: false
        // Somebody else has declared it, or the virtual host has a default of its own.
        default: names.declares ? false : nil
        }
    }

    /// How many calls may wait in this process before others are shed; `nil`: none is.
    var maximumWaiting: Int? {
        if case .shed(let waiting) = whenBusy { max(0, waiting) } else { nil }
    }

    private static let largestPrefetch = 1 << 24

    /// How many requests the broker hands over, on all channels together, before they are answered.
    var prefetch: Int {
        // More than the broker can hand over on all channels together are as many as it can.
        let concurrency = min(max(1, concurrency), Self.largestPrefetch)
        // To shed some, they must be handed over while the others run.
        return maximumWaiting.map { 2 * concurrency + min($0, Self.largestPrefetch) } ?? concurrency
    }
}
