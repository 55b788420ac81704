extension Duration {
    /// A hundred years: longer than anything runs, and short enough that sums and conversions of durations do not overflow.
    public static let century = Duration.seconds(100 * 31_556_952)

    /// At most a hundred years, forwards or backwards. What users give is brought into these bounds before it is computed with,
    /// printed or handed to the system: with the greatest durations that there are, each of these would trap.
    public var clamped: Duration { min(max(self, .zero - .century), .century) }

    /// At least nothing and at most a hundred years: what deadlines are computed from without an overflow.
    public var bounded: Duration { min(max(self, .zero), .century) }

    /// So many times as long, within ``clamped``; zero for what is not a number, or would be less than nothing.
    public func scaled(by factor: Double) -> Duration {
        let (seconds, attoseconds) = max(clamped, .zero).components
        let scaled = (Double(seconds) * 1e18 + Double(attoseconds)) * factor
        guard scaled > 0 else { return .zero }
        guard scaled < 100 * 31_556_952 * 1e18 else { return .century }
        let whole = (scaled / 1e18).rounded(.down)
        let rest = min(max(scaled - whole * 1e18, 0), 1e18)
        return Duration(secondsComponent: Int64(whole), attosecondsComponent: Int64(rest))
    }

    /// Rounded towards zero, within ``clamped``.
    public var wholeNanoseconds: Int64 {
        let (seconds, attoseconds) = clamped.components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}
