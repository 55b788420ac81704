/// What a ``FaultProxy`` does to the bytes that go in one direction.
public struct NetworkConditions: Sendable, Hashable {
    /// Nothing is read any more: what was on its way stays on its way, and the sender's socket fills up until it blocks. As
    /// behind a peer that is stuck, or one that is frozen.
    public var isStalled: Bool
    /// Everything is read and thrown away, closing included: each side believes the other to be there. As when a
    /// firewall forgot the connection, or a cable was pulled.
    public var isHalfOpen: Bool
    /// How much later everything comes. Order is kept; what a megabyte of this takes longer than the delay is held up.
    public var delay: Duration
    /// How many bytes go through in a second; nil is as many as there are. At least 1.
    public var bytesPerSecond: Int?

    /// A network that does nothing to the bytes.
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

    /// Conditions of any combination.
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
