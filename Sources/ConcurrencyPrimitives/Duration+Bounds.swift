extension Duration {
    /// A hundred years: longer than anything runs, and short enough that sums and conversions of durations do not overflow.
    public static let century = Duration.seconds(100 * 31_556_952)

    /// Clamped to plus or minus a hundred years. Durations from users are clamped before they are used in arithmetic, printed or passed to
    /// the system, which would trap with the largest values.
    public var clamped: Duration { min(max(self, .zero - .century), .century) }

    /// Clamped to between zero and a hundred years, so that deadlines can be computed without overflow.
    public var bounded: Duration { min(max(self, .zero), .century) }

    /// The product, within ``clamped``; zero if the factor is negative or not a number.
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
