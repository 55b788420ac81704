import ConcurrencyPrimitives
import Logging
import Supervision
import Testing

@testable import AMQPPool

@Suite("The story of a pool in the log")
struct BrokerStoryTests {
    private let subject = BrokerStory.Subject(kind: "pool", name: "shop", connections: 2)
    private let refused = AMQPError.connectFailed(endpoint: "amqp://a:5672", reason: "connection refused")
    private let lost = AMQPError.connectionLost(reason: "closed by the peer")
    private let stopped = AMQPError.connectionClosedByBroker(code: 320, text: "CONNECTION_FORCED")

    /// What is written at `info` and above when these happen, each so many seconds after the start.
    private func lines(_ events: [(Double, BrokerStory.Event)]) -> [String] {
        var story = BrokerStory(subject)
        let start = ContinuousClock.now
        return events.flatMap { seconds, event in
            story.handle(event, at: start + .milliseconds(Int(seconds * 1000)))
                .filter { $0.level >= .info }
                .map { line in
                    let metadata = line.metadata.filter { $0.key != "pool" }.sorted { $0.key < $1.key }
                        .map { " \($0.key)=\($0.value)" }.joined()
                    return "\(line.level) \(line.message)\(metadata)"
                }
        }
    }

    private func failed(_ number: Int = 1, _ error: AMQPError? = nil, at endpoint: String = "a") -> BrokerStory.Event {
        .failed(
            number: number,
            place: ["endpoint": "\(endpoint)"],
            .init(connecting: error ?? refused),
            retryIn: .milliseconds(4500)
        )
    }

    private func up(_ number: Int = 1) -> BrokerStory.Event { .up(number: number, place: ["endpoint": "a"]) }

    @Test("A start is two lines, and a stop two, however many connections there are")
    func life() {
        #expect(
            lines([
                (0, .started), (0.1, up(1)), (0.1, up(2)), (5, .stopping(inWork: 3)),
                (5, .down(.init(AMQPError.connectionClosed))),
                (5, .down(.init(AMQPError.connectionClosed))), (6, .stopped(.shutdown())),
            ]) == [
                "info pool started", "info pool connected after=100ms attempts=1 endpoint=a",
                "info pool stopping in-work=3", "info pool stopped",
            ]
        )
    }

    @Test("A connection that comes up, and one that cannot, while it stops begin nothing anew")
    func lateWhileStopping() {
        #expect(
            lines([
                (0, up(1)), (5, .stopping(inWork: 0)), (5, .down(.init(AMQPError.connectionClosed))), (5, up(2)),
                (5, failed(1)), (5, .down(.init(AMQPError.connectionClosed))), (6, .stopped(.shutdown())),
                (9, up(1)),
            ]) == [
                "info pool started", "info pool connected after=0s attempts=1 endpoint=a",
                "info pool stopping in-work=0",
                "info pool stopped", "info pool started", "info pool connected after=0s attempts=1 endpoint=a",
            ]
        )
    }

    @Test("Nothing is said of a refusal as that of two that create a queue at the same moment, until it is the third")
    func passing() {
        let refusal = AMQPError.topologyRefused(operation: "queue.declare", code: 541, text: "INTERNAL_ERROR")
        let beginning = "info pool started"
        #expect(
            lines([(0, .started), (0.1, failed(1, refusal)), (0.2, failed(1, refusal)), (0.3, up(1)), (0.3, up(2))])
                == [beginning, "info pool connected after=300ms attempts=3 endpoint=a"]
        )
        // The third time it is what it says; on another connection it is another one's first time.
        let all = lines([
            (0, .started), (0.1, failed(1, refusal)), (0.1, failed(2, refusal)), (0.2, failed(1, refusal)),
            (0.3, failed(1, refusal)),
        ])
        #expect(all.count == 2)
        #expect(all.last?.hasPrefix("error pool cannot connect attempt=3 endpoint=a reason=") == true, "\(all)")
        // An error of another kind between them begins the count anew, and is told.
        #expect(
            lines([
                (0, .started), (0.1, failed(1, refusal)), (0.2, failed(1)), (0.3, failed(1, refusal)),
                (0.4, failed(1, refusal)),
            ]).map { $0.prefix(24) } == [beginning[...], "warning pool cannot conne"[...].prefix(24)]
        )
    }

    @Test("What comes before the start is known is told after it")
    func order() {
        #expect(
            lines([(0, up(1)), (0.1, .started)]) == [
                "info pool started", "info pool connected after=0s attempts=1 endpoint=a",
            ]
        )
    }

    @Test("An outage is a beginning and an end, with a line for each new reason, and one a minute")
    func outage() {
        var events: [(Double, BrokerStory.Event)] = [
            (0, up(1)), (0, up(2)), (10, .down(.init(lost))), (10, .down(.init(lost))),
        ]
        for second in 0..<150 { events.append((10.5 + Double(second), failed(1))) }
        events.append((161, up(1)))
        events.append((161, up(2)))
        let attempt = "warning pool cannot connect attempt"
        let why = "endpoint=a reason=\(refused) retry-in=4.5s"
        #expect(
            lines(events).dropFirst(2) == [
                "warning pool has lost the broker reason=\(lost)",
                "\(attempt)=1 \(why)", "\(attempt)=61 \(why)", "\(attempt)=121 \(why)",
                "info pool connected again after=2m 31s attempts=151 endpoint=a",
            ]
        )
    }

    @Test("Two endpoints that fail in turn for two reasons are two lines, not one for each attempt")
    func alternating() {
        let other = AMQPError.connectFailed(endpoint: "amqp://b:5672", reason: "no answer in time")
        let events = (0..<40).map { index in
            (Double(index), index.isMultiple(of: 2) ? failed(1) : failed(1, other, at: "b"))
        }
        #expect(lines(events).count == 3)
    }

    @Test("A broker that stops in order is no warning; what it refuses is an error")
    func levels() {
        let password = AMQPError.authenticationFailed(endpoint: "a", text: "ACCESS_REFUSED")
        let host = AMQPError.virtualHostRefused(endpoint: "a", virtualHost: "x", code: 530, text: "not found")
        let lines = lines([
            (0, up(1)), (1, .down(.init(stopped))), (2, failed(1)), (3, failed(1, password)), (4, failed(1, host)),
        ])
        #expect(
            lines.map { $0.prefix { $0 != " " } } == ["info", "info", "info", "warning", "error", "error"]
        )
    }

    @Test("One connection of two that comes back at once is one line, and one that does not is a beginning and an end")
    func partial() {
        let before: [(Double, BrokerStory.Event)] = [(0, up(1)), (0, up(2)), (1, .down(.init(lost)))]
        #expect(
            lines(before + [(1.5, up(2))]).dropFirst(2) == [
                "info pool has lost a connection and has it again after=500ms attempts=1 endpoint=a reason=\(lost)"
            ]
        )
        #expect(
            lines(before + [(1.5, failed(2)), (2.5, failed(2)), (3, up(2))]).dropFirst(2) == [
                "warning pool cannot connect attempt=1 connections=1 of 2 endpoint=a lost=\(lost) reason=\(refused)"
                    + " retry-in=4.5s",
                "info pool has all connections again after=2s attempts=3 endpoint=a",
            ]
        )
    }

    @Test("A broker that accepts no messages is a beginning and an end, however many connections it says it on")
    func blocked() {
        #expect(
            lines([
                (0, up(1)), (0, up(2)), (1, .blocked("low on memory")), (1, .blocked("low on memory")),
                (4, .blocked(nil)),
                (4, .blocked(nil)),
            ]).dropFirst(2) == [
                "warning pool blocked: the broker accepts no messages reason=low on memory",
                "info pool not blocked any more: the broker accepts messages after=3s",
            ]
        )
    }

    @Test("A second life tells its start anew, and one that ended for a reason says it")
    func secondLife() {
        #expect(
            lines([
                (0, .started), (0, .stopped(.crashed(lost))), (1, .started), (1, up(1)), (2, .stopping(inWork: nil)),
                (2, .stopped(.shutdown())),
            ]) == [
                "info pool started", "error pool stopped reason=crashed: \(lost)", "info pool started",
                "info pool connected after=0s attempts=1 endpoint=a", "info pool stopping", "info pool stopped",
            ]
        )
    }

    @Test(
        "Durations are for people",
        arguments: [
            (.zero, "0s"), (.microseconds(40), "40us"), (.milliseconds(85), "85ms"), (.milliseconds(4500), "4.5s"),
            (.seconds(5), "5s"), (.milliseconds(59_960), "1m"), (.seconds(125), "2m 5s"), (.seconds(12_000), "3h 20m"),
            (.milliseconds(-20), "-20ms"),
        ] as [(Duration, String)]
    )
    func durations(_ duration: Duration, _ text: String) {
        #expect(duration.text == text)
    }
}
