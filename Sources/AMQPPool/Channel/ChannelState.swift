/// The state of a channel.
public enum ChannelState: Sendable, Hashable {
    /// The channel is open, subject to the state of its connection: see ``ConnectionState/blocked(reason:)``.
    case open
    /// The channel is closing: it accepts nothing more, and pending operations still complete.
    case closing
    /// The channel is closed; this is its last state. ``AMQPChannel/closedError`` says why.
    case closed
}
