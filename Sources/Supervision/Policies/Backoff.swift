import ConcurrencyPrimitives

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// How long a supervisor waits before it restarts a failed child.
///
///     failure        1      2      3      4      5
///     delay (max)  100ms  200ms  400ms  800ms  1.6s  ...  maximum
///
/// The n-th delay is `minimum * factor^(n-1)`, capped at `maximum`; jitter then shortens it at random, so that the cap also holds after
/// jitter. A delay is computed in constant time and lies between zero and `maximum` for any values and any number of failures; invalid
/// values are rejected by whatever is configured with them. When an incarnation has stayed up for `resetAfter`, the next failure counts as
/// the first. The supervisor keeps the count across incarnations.
public struct Backoff: Sendable, Hashable {
    /// The first delay.
    public var minimum: Duration
    /// The upper bound of all delays.
    public var maximum: Duration
    /// The growth of each delay over the one before, at least 1.
    public var factor: Double
    /// The part of the delay that is random: 0 for none, 1 for anything between zero and the delay ("full jitter").
    public var jitter: Double
    /// How long an incarnation must have lived for the count of failures to start again.
    public var resetAfter: Duration

    /// Creates a backoff. `resetAfter` defaults to twice the maximum.
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
        // A factor that is not a number, or below 1, is rejected where the backoff is configured; here it means no growth.
        let growth = factor > 1 && steps > 0 ? pow(factor, steps) : 1
        let longest = min(minimum.scaled(by: growth), maximum)
        let randomPart = jitter > 0 ? min(jitter, 1) * random : 0
        return longest.scaled(by: 1 - randomPart)
    }

    /// The first problem with these values, `nil` if they are valid.
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
