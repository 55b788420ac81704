internal import ConcurrencyPrimitives

/// The state of a pool.
public enum PoolState: Sendable, Hashable {
    /// It is not running: not started, stopped, or restarting.
    case stopped
    /// It is running, but no channel is ready. The error of ``AMQPPool/waitUntilReady(timeout:)`` has the failures so far.
    case connecting
    /// A channel is ready.
    case ready
    /// There are channels, but the broker accepts no messages on any of them at present.
    case blocked
}

extension AMQPPool {
    /// The current state of the pool, and each change. Does not end. At most 16 states are buffered, then the oldest are dropped.
    public var states: AsyncStream<PoolState> { stateBroadcast.stream }
}
