public import AMQPPool
public import Metrics
public import RPCWire
public import Supervision

/// The settings of a caller.
public struct RPCCallerConfiguration: Sendable {
    /// The connections and channels, and how they are opened again.
    public var pool: PoolConfiguration
    /// The names on the wire.
    public var names: RPCNames
    /// How long a call waits for its reply unless it says so itself. Default 5 s.
    public var timeout: Duration
    /// How many calls and casts may be in flight at once. Default 10,000.
    public var maximumCallsInFlight: Int
    /// What becomes of a call when as many are in flight. Default: it fails at once.
    public var whenFull: WhenFull
    /// What becomes of a call to a service that exists and that nobody serves at present. Default: it waits.
    public var whenNobodyServes: WhenNobodyServes
    /// Where replies come to. Default: a queue that all channels share.
    public var replies: RPCReplies
    /// Whether the broker confirms requests. Default yes.
    ///
    /// Without confirms a call costs the broker and the caller less, and promises less. What is lost on the way to the broker, with
    /// a connection that breaks, is not known to be: its call ends at its deadline with
    /// ``RPCError/timeout(requestMayHaveBeenDelivered:)``, or with ``RPCError/replyQueueLost`` where replies are ``RPCReplies/direct``.
    /// A request that a full queue refuses ends in the same way. A cast returns as soon as it is on its way. That no queue takes a
    /// request is reported all the same (``RPCError/unroutable(destination:)``), to a cast only if it still waits.
    public var confirms: Bool
    /// How long stopping lets calls wait for their replies, before they fail. Default 30 s.
    public var drainTimeout: Duration
    /// How many replies a channel is handed before it acknowledges. A stalled connection holds back no more. Default 256.
    public var replyPrefetch: UInt16
    /// How long the broker keeps a reply queue that nobody uses any more, in case it could not be deleted. Default 60 s.
    public var replyQueueExpiry: Duration
    /// How many restarts the caller's tree allows before it gives up. Default: 3 in 5 s.
    public var intensity: RestartIntensity

    /// What stands around each call and cast; the first is the outermost. Default: nothing.
    public var interceptors: [any RPCCallerInterceptor]
    /// Whether calls become spans, and whose. Default: what `InstrumentationSystem` was bootstrapped with.
    public var tracing: RPCTracing
    /// Where metrics go; `nil` is what `MetricsSystem` was bootstrapped with when the caller is made.
    public var metricsFactory: (any MetricsFactory)?

    /// An exchange of type headers that sends requests back to their callers which nobody took: the reply queue is bound to it by its
    /// own name, under the header `caller`.
    package var bounceExchange: String?

    /// The defaults where nothing else is given, for these endpoints. Each parameter is the property of its name.
    public init(
        endpoints: [Endpoint],
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
        tracing: RPCTracing = RPCTracing.automatic,
        metricsFactory: (any MetricsFactory)? = nil
    ) {
        self.pool = pool ?? PoolConfiguration(endpoints: endpoints)
        if pool != nil { self.pool.endpoints = endpoints }
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

    /// The defaults, for a caller on a pool that others share: its endpoints are that pool's.
    public init() {
        self.init(endpoints: [])
    }

    /// Tracing is the outermost, so that its span is there for the others.
    var allInterceptors: [any RPCCallerInterceptor] {
        let tracing = tracing.resolved.map { CallerTracing(instruments: $0, exchange: names.exchange) }
        return (tracing.map { [$0] } ?? []) + interceptors
    }

    /// Whether the names in it, and the service's, can stand on the wire.
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

    /// What becomes of a call to a service whose queue exists and has no consumer.
    public enum WhenNobodyServes: Sendable, Hashable {
        /// It waits in the queue until a receiver comes, or its deadline passes.
        case wait
        /// It is not sent, and fails with ``RPCError/noReceiver(destination:)``.
        ///
        /// The broker is asked how many consume the service's queue, before a call, and no more often than once a second for each
        /// destination: what it said then may be up to a second old. A queue whose name is not `<destination><suffix>` is not known,
        /// and calls to its service are sent. A restart of the only receiver of a service is a moment in which nobody serves it.
        case failAtOnce
    }

    /// What becomes of a call when as many are in flight as may be.
    public enum WhenFull: Sendable, Hashable {
        /// It fails with ``RPCError/overloaded(limit:)``.
        case failAtOnce
        /// It waits for a place, in order, no longer than its own deadline; when that passes it fails with
        /// ``RPCError/overloaded(limit:)``. No more than `limit` wait in this way: the next one fails at once.
        case wait(limit: Int = 10_000)
    }
}

/// Where a caller's replies come to.
public enum RPCReplies: Sendable, Hashable {
    /// A queue of the caller's own that all its channels consume, with acknowledgements: a channel or a connection that is lost or
    /// killed takes no reply with it while another connection lives.
    case queue
    /// The broker's pseudo-queue `amq.rabbitmq.reply-to`: nothing is declared, and a reply comes on the channel that its request was
    /// sent on, at most once. A channel that ends takes all its replies with it: the calls that wait for them fail at once with
    /// ``RPCError/replyQueueLost``. For many short-lived callers, and where no queue may be declared.
    case direct

    static var directQueue: String { "amq.rabbitmq.reply-to" }
}
