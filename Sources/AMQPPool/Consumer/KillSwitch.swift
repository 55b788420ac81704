internal import ConcurrencyPrimitives
import DequeModule

/// Pauses a consumer when too large a share of its messages fails, in place of failing the whole queue: most likely the fault is not in
/// the messages.
public struct KillSwitch: Sendable {
    /// The share of failures, of 1, from which it pauses.
    public var share: Double
    /// How many messages must have ended within the window for the share to mean something.
    public var minimum: Int
    /// How far back it looks.
    public var window: Duration
    /// How long the consumer pauses.
    public var pause: Duration
    private var outcomes = Deque<(time: Duration, isSuccess: Bool)>()
    private var failures = 0

    /// A switch that pauses when of at least `minimum` messages within the window this share has failed.
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

    /// What is wrong with these values, if anything.
    package var problem: String? {
        if !(share > 0 && share <= 1) { return "a kill switch's share is more than 0 and at most 1, not \(share)" }
        if minimum < 1 || minimum > Self.limit {
            return "a kill switch's minimum is from 1 to \(Self.limit) messages, not \(minimum)"
        }
        if window <= .zero { return "a kill switch's window is longer than nothing, not \(window)" }
        if pause <= .zero { return "a kill switch's pause is longer than nothing, not \(pause)" }
        return nil
    }

    /// No more outcomes than this are remembered.
    static let limit = 10_000

    /// A message has ended. Returns how long to pause, when it was one failure too many.
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

    /// Forgets what was.
    mutating func reset() {
        outcomes.removeAll()
        failures = 0
    }
}
