public import AMQPPool
public import Metrics
public import RPCWire
public import Supervision

/// The settings of a caller.
public struct RPCCallerConfiguration: Sendable {
    /// The connections and channels, and how they are reopened.
    public var pool: PoolConfiguration
    /// The names on the wire.
    public var names: RPCNames
    /// The default time limit for the reply to a call. Default 5 s.
    public var timeout: Duration
    /// The maximum number of calls and casts in flight. Default 10,000.
    public var maximumCallsInFlight: Int
    /// What happens to a call when that limit is reached. Default: it fails immediately.
    public var whenFull: WhenFull
    /// What happens to a call to a service whose queue exists but has no consumer. Default: it waits.
    public var whenNobodyServes: WhenNobodyServes
    /// How replies are delivered. Default: through a queue that all channels share.
    public var replies: RPCReplies
    /// Whether the broker confirms requests. Default true.
    ///
    /// Without confirms a call costs the broker and the caller less, but has weaker guarantees. The loss of a request on a broken
    /// connection is not detected: its call ends at its deadline with ``RPCError/timeout(requestMayHaveBeenDelivered:)``, or with
    /// ``RPCError/replyQueueLost`` if replies are ``RPCReplies/direct``. A request that a full queue refuses ends in the same way. A cast
    /// returns as soon as it has been sent. A request that cannot be routed is reported nevertheless
    /// (``RPCError/unroutable(destination:)``), to a cast only if it still waits.
    public var confirms: Bool
    /// How long a stop lets calls wait for their replies before they fail. Default 30 s.
    public var drainTimeout: Duration
    /// The maximum number of unacknowledged replies per channel, which bounds what a stalled connection holds back. Default 256.
    public var replyPrefetch: UInt16
    /// How long the broker keeps an unused reply queue that could not be deleted. Default 60 s.
    public var replyQueueExpiry: Duration
    /// How many restarts the caller's tree allows before it gives up. Default: 3 in 5 s.
    public var intensity: RestartIntensity

    /// The interceptors of calls and casts; the first is the outermost. Default: none.
    public var interceptors: [any RPCCallerInterceptor]
    /// Whether calls are traced, and by which tracer. Default: the one that `InstrumentationSystem` was bootstrapped with.
    public var tracing: AMQPTracing
    /// The factory for metrics; `nil` for the one that `MetricsSystem` was bootstrapped with when the caller is created.
    public var metricsFactory: (any MetricsFactory)?

    /// A headers exchange that returns requests which nobody accepted to their callers: the reply queue is bound to it by its own name, in
    /// the header `caller`.
    package var bounceExchange: String?

    /// Creates a configuration. Each parameter sets the property of its name; `endpoints` are those of its own pool, in place of those of
    /// `pool`. A caller on a shared pool needs none, since the pool has its own.
    public init(
        endpoints: [Endpoint] = [],
        pool: PoolConfiguration? = nil,
        names: RPCNames = RPCNames(),
        timeout: Duration = .seconds(5),
        maximumCallsInFlight: Int = 10_000,
        whenFull: WhenFull = WhenFull.failAtOnce,
        whenNobodyServes: WhenNobodyServes = WhenNobodyServes.wait,
        replies: RPCReplies = RPCReplies.queue,
        confirms: Bool = true,
        drainTimeout: Duration = .seconds(30),
        replyPrefetch: UInt16 = 256,
        replyQueueExpiry: Duration = .seconds(60),
        intensity: RestartIntensity = RestartIntensity(3, within: .seconds(5)),
        interceptors: [any RPCCallerInterceptor] = [],
        tracing: AMQPTracing = AMQPTracing.automatic,
        metricsFactory: (any MetricsFactory)? = nil
    ) {
        self.pool = pool ?? PoolConfiguration(endpoints: endpoints)
        if !endpoints.isEmpty { self.pool.endpoints = endpoints }
        self.names = names
        self.timeout = timeout
        self.maximumCallsInFlight = maximumCallsInFlight
        self.whenFull = whenFull
        self.whenNobodyServes = whenNobodyServes
        self.replies = replies
        self.confirms = confirms
        self.drainTimeout = drainTimeout
        self.replyPrefetch = replyPrefetch
        self.replyQueueExpiry = replyQueueExpiry
        self.intensity = intensity
        self.interceptors = interceptors
        self.tracing = tracing
        self.metricsFactory = metricsFactory
    }

    /// Tracing is the outermost, so that its span exists for the others.
    var allInterceptors: [any RPCCallerInterceptor] {
        let tracing = tracing.resolved.map { CallerTracing(instruments: $0, exchange: names.exchange) }
        return (tracing.map { [$0] } ?? []) + interceptors
    }

    /// Throws if one of its names, or the service's, is not valid on the wire.
    package func check(service: String) throws(RPCConfigurationError) {
        try RPCConfigurationError.check(service: service, names: names)
        try RPCConfigurationError.check(names.replyQueue(of: service, id: RequestID()), of: "reply queue")
        guard maximumCallsInFlight > 0 else {
            throw .invalidSetting("maximumCallsInFlight", why: "must be at least 1")
        }
        guard replyQueueExpiry >= .milliseconds(1) else {
            throw .invalidSetting("replyQueueExpiry", why: "must be at least a millisecond")
        }
        try pool.checkChannels()
    }

    var maximumCallsWaiting: Int {
        if case .wait(let limit) = whenFull { max(0, limit) } else { 0 }
    }

    /// What happens to a call to a service whose queue exists and has no consumer.
    public enum WhenNobodyServes: Sendable, Hashable {
        /// It waits in the queue until a receiver is running, or its deadline passes.
        case wait
        /// It is not sent, and fails with ``RPCError/noReceiver(destination:)``.
        ///
        /// Before a call the broker is asked for the number of consumers of the service's queue, at most once a second per destination: the
        /// answer may be up to a second old. Queues that are not named `<destination><suffix>` are unknown, and calls to their services are
        /// sent. While the only receiver of a service restarts, the service has no consumer.
        case failAtOnce

        /// Whether the broker is asked before a call.
        var asksBroker: Bool {
            switch self {
            case .wait: false
            case .failAtOnce: true
            }
        }
    }

    /// What happens to a call when the limit of calls in flight is reached.
    public enum WhenFull: Sendable, Hashable {
        /// It fails with ``RPCError/overloaded(limit:)``.
        case failAtOnce
        /// It waits for a slot, in order of arrival, until its own deadline; then it fails with ``RPCError/overloaded(limit:)``. At most
        /// `limit` calls wait in this way: further ones fail immediately.
        case wait(limit: Int = 10_000)
    }
}

/// How a caller's replies are delivered.
public enum RPCReplies: Sendable, Hashable {
    /// Through the caller's own queue, which all its channels consume, with acknowledgements: the loss of a channel or connection loses no
    /// reply while another connection lives.
    case queue
    /// Through the broker's pseudo-queue `amq.rabbitmq.reply-to`: nothing is declared, and a reply arrives on the channel of its request,
    /// at most once. When a channel ends, its replies are lost: the calls that wait for them fail immediately with
    /// ``RPCError/replyQueueLost``. For many short-lived callers, and where no queue may be declared.
    case direct

    static var directQueue: String { "amq.rabbitmq.reply-to" }
}
