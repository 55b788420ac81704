internal import ConcurrencyPrimitives

/// How a connection is.
public enum ConnectionState: Sendable, Hashable {
    /// Open for everything.
    case open
    /// The broker accepts no messages at present, for this reason.
    case blocked(reason: String)
    /// Over; this is its last state. ``AMQPConnection/closedError`` tells why.
    case closed
}

extension AMQPConnection {
    /// The connection's state now, and each change; ends after ``ConnectionState/closed``. At most 16 wait to be taken, then the
    /// oldest are lost.
    public nonisolated var states: AsyncStream<ConnectionState> { stateBroadcast.stream }
}

/// How a channel is.
public enum ChannelState: Sendable, Hashable {
    /// Open for everything, as far as its connection is: see ``ConnectionState/blocked(reason:)``.
    case open
    /// About to close: it takes nothing more, and what is on its way still gets its outcome.
    case closing
    /// Over; this is its last state. ``AMQPChannel/closedError`` tells why.
    case closed
}

extension AMQPChannel {
    /// The channel's state now, and each change; ends after ``ChannelState/closed``. At most 16 wait to be taken, then the
    /// oldest are lost.
    public nonisolated var states: AsyncStream<ChannelState> { stateBroadcast.stream }
}

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
