/// An instant of the continuous clock, in a form whose size the compiler knows.
///
/// The library does not promise the layout of `ContinuousClock.Instant`, so that whatever holds one is laid out and copied by the
/// runtime, member by member. What is held for each call holds this instead.
package struct CompactInstant: Sendable, Hashable, Comparable {
    private static let origin = ContinuousClock.now

    private let sinceOrigin: Duration

    /// The same instant.
    package init(_ instant: ContinuousClock.Instant) {
        sinceOrigin = Self.origin.duration(to: instant)
    }

    private init(_ sinceOrigin: Duration) {
        self.sinceOrigin = sinceOrigin
    }

    package static var now: CompactInstant { CompactInstant(ContinuousClock.now) }

    /// The same instant, for those who know the clock only.
    package var instant: ContinuousClock.Instant { Self.origin + sinceOrigin }

    package func duration(to other: CompactInstant) -> Duration { other.sinceOrigin - sinceOrigin }

    package static func + (instant: CompactInstant, duration: Duration) -> CompactInstant {
        CompactInstant(instant.sinceOrigin + duration)
    }

    package static func < (left: CompactInstant, right: CompactInstant) -> Bool { left.sinceOrigin < right.sinceOrigin }
}
