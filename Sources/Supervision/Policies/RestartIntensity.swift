import ConcurrencyPrimitives
import DequeModule

/// How many restarts a supervisor allows within a period, over all its children, before it gives up.
///
/// Exactly ``restarts`` are allowed in any window of the length ``period``; the next one exceeds the intensity, and the
/// child is not started again. A restart that is exactly ``period`` old still counts (OTP's `R >= Now - Period`).
/// A group restart costs one, each retry of a failed restart costs one, normal ends of transient and temporary children
/// cost nothing.
public struct RestartIntensity: Sendable, Hashable {
    /// The number of restarts allowed, at least 0.
    public var restarts: Int
    /// The length of the window, more than zero.
    public var period: Duration

    /// At most `restarts` restarts within `period`.
    public init(_ restarts: Int, within period: Duration) {
        self.restarts = restarts
        self.period = period
    }

    /// What is wrong with these values, if anything.
    var problem: String? {
        if restarts < 0 { return "the restart intensity must not be negative, but is \(restarts)" }
        if period <= .zero { return "the restart period must be longer than zero, but is \(period.clamped)" }
        return nil
    }
}

/// The restarts inside the sliding window. Adding is O(1) amortised, and never more than `restarts` times are kept; none for an
/// intensity that nothing exceeds.
struct RestartWindow: Sendable {
    private let restarts: Int
    private let period: Duration
    private var times = Deque<Duration>()

    init(_ intensity: RestartIntensity) {
        restarts = intensity.restarts
        period = intensity.period.clamped
    }

    /// Counts a restart at `now`. False when it is one too many.
    mutating func add(at now: Duration) -> Bool {
        if restarts == .max { return true }
        while let oldest = times.first, oldest < now - period {
            times.removeFirst()
        }
        guard times.count < restarts else { return false }
        times.append(now)
        return true
    }

    /// How many restarts count at `now`.
    func count(at now: Duration) -> Int {
        times.count { $0 >= now - period }
    }

    mutating func reset() {
        times.removeAll(keepingCapacity: true)
    }
}
