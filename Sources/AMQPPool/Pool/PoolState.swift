internal import ConcurrencyPrimitives

/// How a pool is.
public enum PoolState: Sendable, Hashable {
    /// It does not run: not started, stopped, or about to start again.
    case stopped
    /// It runs, and no channel is ready. What failed so far is in the error of ``AMQPPool/waitUntilReady(timeout:)``.
    case connecting
    /// A channel is ready.
    case ready
    /// There are channels, but the broker accepts no messages on any of them at present.
    case blocked
}

extension AMQPPool {
    /// The pool's state now, and each change. Does not end. At most 16 wait to be taken, then the oldest are lost.
    public var states: AsyncStream<PoolState> { stateBroadcast.stream }
}
