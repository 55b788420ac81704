/// How long a supervisor waits before it starts a failed child again.
///
///     failure        1      2      3      4      5
///     delay (max)  100ms  200ms  400ms  800ms  1.6s  ...  maximum
///
/// The n-th delay is `minimum * factor^(n-1)`, at most `maximum`; jitter then shortens it at random, so that the bound
/// holds after jitter too. An incarnation that stayed up for `resetAfter` makes the next failure the first again. The
/// count is kept by the supervisor across incarnations.
public struct Backoff: Sendable, Hashable {
    /// The first delay.
    public var minimum: Duration
    /// No delay is longer.
    public var maximum: Duration
    /// By how much each delay is longer than the one before, at least 1.
    public var factor: Double
    /// The part of the delay that is random: 0 for none, 1 for anything between zero and the delay ("full jitter").
    public var jitter: Double
    /// How long an incarnation must have lived for the count of failures to begin anew.
    public var resetAfter: Duration

    /// A backoff. `resetAfter` defaults to twice the maximum.
    public init(
        minimum: Duration = .milliseconds(100),
        maximum: Duration = .seconds(5),
        factor: Double = 2,
        jitter: Double = 1,
        resetAfter: Duration? = nil
    ) {
        self.minimum = minimum
        self.maximum = maximum
        self.factor = factor
        self.jitter = jitter
        self.resetAfter = resetAfter ?? maximum * 2
    }

    /// The delay before the attempt that follows `failures` failures in a row (1 or more). `random` is in `0..<1`.
    package func delay(afterFailures failures: Int, random: Double) -> Duration {
        var longest = minimum
        var step = 1
        while step < failures, longest < maximum {
            longest = longest * factor
            step += 1
        }
        longest = min(longest, maximum)
        return longest * (1 - jitter * random)
    }

    /// What is wrong with these values, if anything.
    var problem: String? {
        if minimum < .zero { return "a backoff's minimum must not be negative, but is \(minimum)" }
        if maximum < minimum {
            return "a backoff's maximum (\(maximum)) must not be less than its minimum (\(minimum))"
        }
        if !(factor >= 1 && factor.isFinite) { return "a backoff's factor must be at least 1, but is \(factor)" }
        if !(0...1).contains(jitter) { return "a backoff's jitter must be between 0 and 1, but is \(jitter)" }
        return nil
    }
}
