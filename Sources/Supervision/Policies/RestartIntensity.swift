import ConcurrencyPrimitives
import DequeModule

/// How many restarts of its children a supervisor allows within a period before it gives up.
///
/// Exactly ``restarts`` are allowed in any window of length ``period``; the next one exceeds the intensity, and the child is not restarted.
/// A restart that is exactly ``period`` old still counts (OTP's `R >= Now - Period`). A group restart counts once, and so does each retry
/// of a failed restart; normal exits of transient and temporary children do not count.
public struct RestartIntensity: Sendable, Hashable {
    /// The number of restarts allowed, at least 0.
    public var restarts: Int
    /// The length of the window, more than zero.
    public var period: Duration

    /// Allows at most `restarts` restarts within `period`.
    public init(_ restarts: Int, within period: Duration) {
        self.restarts = restarts
        self.period = period
    }

    /// The first problem with these values, `nil` if they are valid.
    var problem: String? {
        if restarts < 0 { return "the restart intensity must not be negative, but is \(restarts)" }
        if period <= .zero { return "the restart period must be longer than zero, but is \(period.clamped)" }
        return nil
    }
}

/// The restarts inside the sliding window. Adding is amortised O(1). At most `restarts` instants are stored, and none for an intensity that
/// cannot be exceeded.
struct RestartWindow: Sendable {
    private let restarts: Int
    private let period: Duration
    private var times = Deque<Duration>()

    init(_ intensity: RestartIntensity) {
        restarts = intensity.restarts
        period = intensity.period.clamped
    }

    /// Counts a restart at `now`. False when the intensity is exceeded.
    mutating func add(at now: Duration) -> Bool {
        if restarts == .max { return true }
        while let oldest = times.first, oldest < now - period {
            times.removeFirst()
        }
        guard times.count < restarts else { return false }
        times.append(now)
        return true
    }

    /// The number of restarts that count at `now`.
    func count(at now: Duration) -> Int {
        times.count { $0 >= now - period }
    }

    mutating func reset() {
        times.removeAll(keepingCapacity: true)
    }
}
