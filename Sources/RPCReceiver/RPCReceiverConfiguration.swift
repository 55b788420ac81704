public import AMQPPool
public import RPCWire
public import Supervision

/// The settings of a receiver.
public struct RPCReceiverConfiguration: Sendable {
    /// The connections and channels, and how they are opened again. The receiver sets the time that stopping a channel takes.
    public var pool: PoolConfiguration
    /// The names on the wire, and whether the queue and the exchange are created when they are missing.
    public var names = RPCNames()
    /// What the service's queue is declared with, such as `["x-queue-type": "quorum"]`. Default: nothing, so that a queue that
    /// is there already is not refused.
    public var queueArguments = FieldTable()
    /// How many requests run at once, and how many the broker hands over before they are answered. Default 10.
    public var concurrency = 10
    /// How long a handler may take, whatever its caller allows. It must be shorter than the broker's consumer timeout, which is
    /// 30 minutes unless configured. Default 10 minutes.
    public var handlerTimeLimit: Duration = .seconds(600)
    /// How long stopping waits for requests that are being answered. What is not answered then is redelivered. Default 30 s.
    public var drainTimeout: Duration = .seconds(30)
    /// What becomes of a request whose handler failed with an error of its own.
    public var onFailure = FailurePolicy.acknowledge
    /// How many deliveries without an answer make a request be given up, on queues that count them (quorum). Default 20.
    public var deliveryLimit = 20
    /// Whether callers get the text of a handler's own error, which may tell what only the receiver should know. Default false.
    public var exposesErrors = false
    /// How many restarts the receiver's tree allows before it gives up. Default: 3 in 5 s.
    public var intensity = RestartIntensity(3, within: .seconds(5))

    /// The defaults, for these endpoints.
    public init(endpoints: [Endpoint]) {
        pool = PoolConfiguration(endpoints: endpoints)
    }
}
