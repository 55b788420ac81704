internal import ConcurrencyPrimitives

/// The state of a connection.
public enum ConnectionState: Sendable, Hashable {
    /// The connection is open.
    case open
    /// The broker accepts no messages at present, for this reason.
    case blocked(reason: String)
    /// The connection is closed; this is its last state. ``AMQPConnection/closedError`` says why.
    case closed
}

extension AMQPConnection {
    /// The current state of the connection, and each change; ends after ``ConnectionState/closed``. At most 16 states are buffered, then
    /// the oldest are dropped.
    public nonisolated var states: AsyncStream<ConnectionState> { stateBroadcast.stream }
}

extension AMQPChannel {
    /// The current state of the channel, and each change; ends after ``ChannelState/closed``. At most 16 states are buffered, then the
    /// oldest are dropped.
    public nonisolated var states: AsyncStream<ChannelState> { stateBroadcast.stream }
}
