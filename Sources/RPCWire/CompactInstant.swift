/// An instant of the continuous clock, in a form whose size the compiler knows.
///
/// The layout of `ContinuousClock.Instant` is not fixed, so the runtime lays out and copies every type that contains one member by member.
/// The state of each call uses this type instead.
package struct CompactInstant: Sendable, Hashable, Comparable {
    private static let origin = ContinuousClock.now

    private let sinceOrigin: Duration

    /// Converts from an instant.
    package init(_ instant: ContinuousClock.Instant) {
        sinceOrigin = Self.origin.duration(to: instant)
    }

    private init(_ sinceOrigin: Duration) {
        self.sinceOrigin = sinceOrigin
    }

    package static var now: CompactInstant { CompactInstant(ContinuousClock.now) }

    /// The same instant, for APIs of the clock.
    package var instant: ContinuousClock.Instant { Self.origin + sinceOrigin }

    package func duration(to other: CompactInstant) -> Duration { other.sinceOrigin - sinceOrigin }

    package static func + (instant: CompactInstant, duration: Duration) -> CompactInstant {
        CompactInstant(instant.sinceOrigin + duration)
    }

    package static func < (left: CompactInstant, right: CompactInstant) -> Bool { left.sinceOrigin < right.sinceOrigin }
}
