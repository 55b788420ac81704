internal import ConcurrencyPrimitives
import DequeModule

/// Pauses a consumer when too large a share of its messages fails, instead of failing the whole queue: the fault is then probably not in
/// the messages.
public struct KillSwitch: Sendable {
    /// The share of failures, from 0 to 1, at which it pauses.
    public var share: Double
    /// The minimum number of messages in the window for the share to be significant.
    public var minimum: Int
    /// The length of the window.
    public var window: Duration
    /// How long the consumer pauses.
    public var pause: Duration
    private var outcomes = Deque<(time: Duration, isSuccess: Bool)>()
    private var failures = 0

    /// Creates a switch that pauses when this share of at least `minimum` messages within the window has failed.
    public init(
        share: Double = 0.5,
        minimum: Int = 20,
        window: Duration = .seconds(60),
        pause: Duration = .seconds(60)
    ) {
        self.share = share
        self.minimum = minimum
        self.window = window
        self.pause = pause
    }

    /// The first problem with these values, `nil` if they are valid.
    package var problem: String? {
        if !(share > 0 && share <= 1) { return "a kill switch's share must be more than 0 and at most 1, not \(share)" }
        if minimum < 1 || minimum > Self.limit {
            return "a kill switch's minimum must be from 1 to \(Self.limit) messages, not \(minimum)"
        }
        if window <= .zero { return "a kill switch's window must be longer than zero, not \(window)" }
        if pause <= .zero { return "a kill switch's pause must be longer than zero, not \(pause)" }
        return nil
    }

    /// The maximum number of stored outcomes.
    static let limit = 10_000

    /// Records the outcome of a message. Returns how long to pause, if this failure reaches the share.
    mutating func record(isSuccess: Bool, at now: Duration) -> Duration? {
        outcomes.append((now, isSuccess))
        if !isSuccess { failures += 1 }
        while let first = outcomes.first, outcomes.count > Self.limit || first.time + window.bounded < now {
            outcomes.removeFirst()
            if !first.isSuccess { failures -= 1 }
        }
        guard !isSuccess, outcomes.count >= max(1, minimum) else { return nil }
        return Double(failures) >= share * Double(outcomes.count) ? pause : nil
    }

    /// Removes all outcomes.
    mutating func reset() {
        outcomes.removeAll()
        failures = 0
    }
}
