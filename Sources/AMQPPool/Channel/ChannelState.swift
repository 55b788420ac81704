/// How a channel is.
public enum ChannelState: Sendable, Hashable {
    /// Open for everything, as far as its connection is: see ``ConnectionState/blocked(reason:)``.
    case open
    /// About to close: it takes nothing more, and what is on its way still gets its outcome.
    case closing
    /// Over; this is its last state. ``AMQPChannel/closedError`` tells why.
    case closed
}
