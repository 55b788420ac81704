/// A moment of the continuous clock, in a form whose size the compiler knows.
///
/// That of `ContinuousClock.Instant` is the runtime's secret: whatever holds one is laid out and copied by the runtime, member by member.
/// What is held for each call holds this instead.
package struct Moment: Sendable, Hashable, Comparable {
    private static let origin = ContinuousClock.now

    private let sinceOrigin: Duration

    /// The same moment.
    package init(_ instant: ContinuousClock.Instant) {
        sinceOrigin = Self.origin.duration(to: instant)
    }

    private init(_ sinceOrigin: Duration) {
        self.sinceOrigin = sinceOrigin
    }

    package static var now: Moment { Moment(ContinuousClock.now) }

    /// The same moment, for those who know the clock only.
    package var instant: ContinuousClock.Instant { Self.origin + sinceOrigin }

    package func duration(to other: Moment) -> Duration { other.sinceOrigin - sinceOrigin }

    package static func + (moment: Moment, duration: Duration) -> Moment { Moment(moment.sinceOrigin + duration) }

    package static func < (left: Moment, right: Moment) -> Bool { left.sinceOrigin < right.sinceOrigin }
}
