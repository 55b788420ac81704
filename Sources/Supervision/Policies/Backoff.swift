import ConcurrencyPrimitives

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How long a supervisor waits before it starts a failed child again.
///
///     failure        1      2      3      4      5
///     delay (max)  100ms  200ms  400ms  800ms  1.6s  ...  maximum
///
/// The n-th delay is `minimum * factor^(n-1)`, at most `maximum`; jitter then shortens it at random, so that the bound
/// holds after jitter too. Whatever the values and the number of failures are, a delay is computed in one step and lies between
/// zero and `maximum`; values that make no sense are refused by whatever is configured with them. An incarnation that stayed up for `resetAfter` makes the next failure the first again. The
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
        self.resetAfter = resetAfter ?? maximum.clamped * 2
    }

    /// The delay before the attempt that follows `failures` failures in a row; less than 1 counts as 1. `random` is in `0..<1`.
    package func delay(afterFailures failures: Int, random: Double) -> Duration {
        let maximum = max(maximum.clamped, .zero)
        let steps = Double(max(failures, 1)) - 1
        // A factor that is not a number, or under 1, is refused where the backoff is configured; here it is that of no growth.
        let growth = factor > 1 && steps > 0 ? pow(factor, steps) : 1
        let longest = min(minimum.scaled(by: growth), maximum)
        let randomPart = jitter > 0 ? min(jitter, 1) * random : 0
        return longest.scaled(by: 1 - randomPart)
    }

    /// What is wrong with these values, if anything.
    package var problem: String? {
        if minimum < .zero { return "a backoff's minimum must not be negative, but is \(minimum.clamped)" }
        if maximum < minimum {
            return "a backoff's maximum (\(maximum.clamped)) must not be less than its minimum (\(minimum.clamped))"
        }
        if !(factor >= 1 && factor.isFinite) {
            return "a backoff's factor must be a number that is at least 1, but is \(factor)"
        }
        if !(0...1).contains(jitter) { return "a backoff's jitter must be between 0 and 1, but is \(jitter)" }
        if resetAfter < .zero {
            return "a backoff's resetAfter must not be negative, but is \(resetAfter.clamped)"
        }
        return nil
    }
}
