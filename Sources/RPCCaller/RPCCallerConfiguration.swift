public import AMQPPool
public import RPCWire
public import Supervision

/// The settings of a caller.
public struct RPCCallerConfiguration: Sendable {
    /// The connections and channels, and how they are opened again.
    public var pool: PoolConfiguration
    /// The names on the wire.
    public var names = RPCNames()
    /// How long a call waits for its reply unless it says so itself. Default 5 s.
    public var timeout: Duration = .seconds(5)
    /// How many calls and casts may wait at once; more fail with ``RPCError/overloaded(limit:)``. Default 10,000.
    public var maximumCallsInFlight = 10_000
    /// How many replies a channel is handed before it acknowledges. A stalled connection holds back no more. Default 256.
    public var replyPrefetch: UInt16 = 256
    /// How long the broker keeps a reply queue that nobody uses any more, in case it could not be deleted. Default 60 s.
    public var replyQueueExpiry: Duration = .seconds(60)
    /// How many restarts the caller's tree allows before it gives up. Default: 3 in 5 s.
    public var intensity = RestartIntensity(3, within: .seconds(5))

    /// The defaults, for these endpoints.
    public init(endpoints: [Endpoint]) {
        pool = PoolConfiguration(endpoints: endpoints)
    }
}
