/// What a ``FaultProxy`` does to the bytes of one direction.
public struct NetworkConditions: Sendable, Hashable {
    /// Nothing is read any more: data stays in transit, and the sender's socket fills up until it blocks, as with a peer that is stuck or
    /// frozen.
    public var isStalled: Bool
    /// Everything is read and discarded, including the close: each side believes that the other is there, as when a firewall dropped the
    /// connection state, or a cable was pulled.
    public var isHalfOpen: Bool
    /// The delay of everything. Order is kept; sending is throttled when a megabyte takes longer than the delay.
    public var delay: Duration
    /// The maximum number of bytes per second; `nil` for no limit. At least 1.
    public var bytesPerSecond: Int?

    /// Forwards bytes unchanged.
    public static let healthy = NetworkConditions()
    /// See ``isStalled``.
    public static let stalled = NetworkConditions(isStalled: true)
    /// See ``isHalfOpen``.
    public static let halfOpen = NetworkConditions(isHalfOpen: true)

    /// See ``delay``.
    public static func delayed(by delay: Duration) -> NetworkConditions { NetworkConditions(delay: delay) }

    /// See ``bytesPerSecond``.
    public static func limited(to bytesPerSecond: Int) -> NetworkConditions {
        NetworkConditions(bytesPerSecond: bytesPerSecond)
    }

    /// Creates any combination of conditions.
    public init(
        isStalled: Bool = false,
        isHalfOpen: Bool = false,
        delay: Duration = .zero,
        bytesPerSecond: Int? = nil
    ) {
        self.isStalled = isStalled
        self.isHalfOpen = isHalfOpen
        self.delay = max(.zero, delay)
        self.bytesPerSecond = bytesPerSecond.map { max(1, $0) }
    }
}
