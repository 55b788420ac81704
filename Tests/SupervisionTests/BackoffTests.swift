import Testing

@testable import Supervision

@Suite("A backoff")
struct BackoffTests {
    @Test("grows by its factor up to its maximum")
    func grows() {
        let backoff = Backoff(minimum: .milliseconds(100), maximum: .seconds(5), jitter: 0)
        let delays = (1...8).map { backoff.delay(afterFailures: $0, random: 0.5) }
        #expect(
            delays == [
                .milliseconds(100), .milliseconds(200), .milliseconds(400), .milliseconds(800), .milliseconds(1600),
                .milliseconds(3200), .seconds(5), .seconds(5),
            ]
        )
    }

    @Test("jitter shortens a delay, and never makes it longer than the maximum")
    func jitter() {
        let backoff = Backoff(minimum: .seconds(4), maximum: .seconds(5), jitter: 0.5)
        #expect(backoff.delay(afterFailures: 1, random: 0) == .seconds(4))
        #expect(backoff.delay(afterFailures: 9, random: 0) == .seconds(5))
        #expect(backoff.delay(afterFailures: 9, random: 0.5) == .milliseconds(3750))
    }

    /// One that was computed in a loop took as many steps as there were failures where the delay does not grow, and the number of
    /// failures may come from the header of a message.
    @Test("takes one step however many failures there were", arguments: [Int.max, .max - 1, 1 << 40])
    func manyFailures(failures: Int) {
        #expect(Backoff(factor: 1, jitter: 0).delay(afterFailures: failures, random: 0) == .milliseconds(100))
        #expect(Backoff(minimum: .zero, jitter: 0).delay(afterFailures: failures, random: 0) == .zero)
        #expect(Backoff(factor: 1.000_000_1, jitter: 0).delay(afterFailures: failures, random: 0) == .seconds(5))
    }

    @Test("a number of failures that cannot be is one failure", arguments: [0, -1, Int.min])
    func fewFailures(failures: Int) {
        #expect(Backoff(jitter: 0).delay(afterFailures: failures, random: 0) == .milliseconds(100))
    }

    static let durations: [Duration] = [
        .zero, .nanoseconds(1), .seconds(1), .seconds(-1), .seconds(Int64.max), .seconds(Int64.min),
        Duration(attoseconds: .max), Duration(attoseconds: .min),
    ]
    static let fractions: [Double] = [
        0, 1, 2, -1, 0.5, 1e300, -1e300, .nan, .infinity, -.infinity, .leastNonzeroMagnitude, .greatestFiniteMagnitude,
    ]

    @Test("whatever its values are, a delay is between zero and the maximum, and never a trap", arguments: durations)
    func extremes(minimum: Duration) {
        for maximum in BackoffTests.durations {
            for factor in BackoffTests.fractions {
                for jitter in BackoffTests.fractions {
                    let backoff = Backoff(minimum: minimum, maximum: maximum, factor: factor, jitter: jitter)
                    for failures in [Int.min, -1, 0, 1, 2, 100, Int.max] {
                        for random in [0, 0.5, 1 - Double.ulpOfOne] {
                            let delay = backoff.delay(afterFailures: failures, random: random)
                            #expect(delay >= .zero)
                            #expect(delay <= max(maximum, .zero))
                        }
                    }
                    _ = backoff.problem
                }
            }
        }
    }

    @Test(
        "values that make no sense are refused, by name",
        arguments: [
            (Backoff(minimum: .seconds(-1)), "minimum"),
            (Backoff(minimum: .seconds(2), maximum: .seconds(1)), "maximum"),
            (Backoff(factor: 0), "factor"), (Backoff(factor: -1), "factor"), (Backoff(factor: .nan), "factor"),
            (Backoff(factor: .infinity), "factor"),
            (Backoff(jitter: -1), "jitter"), (Backoff(jitter: 1.5), "jitter"), (Backoff(jitter: .nan), "jitter"),
            (Backoff(resetAfter: .seconds(-1)), "resetAfter"),
        ]
    )
    func refused(backoff: Backoff, field: String) async throws {
        #expect(backoff.problem?.contains(field) == true)
        let child = Supervisor("app") { Child("a", options: ChildOptions(backoff: backoff)) { _ in Counter() } }
        let root = Supervisor("app", backoff: backoff) {}
        for supervisor in [child, root] {
            await #expect {
                try await supervisor.start()
            } throws: { error in
                guard case SupervisionError.invalidSpecification(let text) = error else { return false }
                return text.contains(field)
            }
        }
    }

    @Test("sensible ones are not, however large")
    func accepted() {
        for factor in [1, 2, 1e300] {
            #expect(Backoff(maximum: Duration(attoseconds: .max), factor: factor).problem == nil)
        }
        #expect(Backoff(minimum: .zero, maximum: .zero).problem == nil)
    }
}
