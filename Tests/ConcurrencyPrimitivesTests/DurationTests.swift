import ConcurrencyPrimitives
import Testing

@Suite("Arithmetic on durations from outside")
struct DurationTests {
    private static let extremes = [
        Duration(attoseconds: .max), Duration(attoseconds: .min), .seconds(Int64.max), .seconds(Int64.min), .zero,
        .nanoseconds(1), .nanoseconds(-1), .century, .zero - .century,
    ]

    @Test(
        "stays within a hundred years, and never traps",
        arguments: extremes,
        [-Double.infinity, -1, 0, 1e-30, 1, 1e30, .infinity, .nan]
    )
    func bounds(_ duration: Duration, _ factor: Double) {
        #expect(duration.clamped >= .zero - .century && duration.clamped <= .century)
        #expect(duration.bounded >= .zero && duration.bounded <= .century)
        let product = duration.scaled(by: factor)
        #expect(product >= .zero && product <= .century)
        #expect(abs(duration.wholeNanoseconds) <= Duration.century.wholeNanoseconds)
    }

    @Test("is exact where nothing has to be clamped")
    func values() {
        #expect(Duration.seconds(-5).bounded == .zero)
        #expect(Duration.seconds(-5).clamped == .seconds(-5))
        #expect(Duration.milliseconds(1500).scaled(by: 2) == .seconds(3))
        #expect(Duration.milliseconds(1500).scaled(by: -1) == .zero)
        #expect(Duration.nanoseconds(1_999_999_999).wholeNanoseconds == 1_999_999_999)
        #expect(Duration(secondsComponent: 0, attosecondsComponent: -1_999_999_999).wholeNanoseconds == -1)
    }

    @Test(
        "is readable in a log",
        arguments: [
            (Duration.zero, "0s"), (.nanoseconds(999), "0s"), (.microseconds(85), "85us"), (.milliseconds(85), "85ms"),
            (.microseconds(999_600), "1s"), (.milliseconds(4_500), "4.5s"), (.milliseconds(59_949), "59.9s"),
            (.milliseconds(59_950), "1m"), (.seconds(125), "2m 5s"), (.seconds(3 * 3600 + 20 * 60), "3h 20m"),
            (.seconds(-2), "-2s"), (.seconds(7200), "2h"),
        ]
    )
    func text(_ duration: Duration, _ text: String) {
        #expect(duration.text == text)
    }
}
