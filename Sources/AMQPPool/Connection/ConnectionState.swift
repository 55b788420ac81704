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

extension AMQPChannel {
    /// The channel's state now, and each change; ends after ``ChannelState/closed``. At most 16 wait to be taken, then the
    /// oldest are lost.
    public nonisolated var states: AsyncStream<ChannelState> { stateBroadcast.stream }
}
