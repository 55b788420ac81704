import Supervision
import Testing

@testable import AMQPPool

@Suite("Attempts to connect", .timeLimit(.minutes(5)))
struct ConnectAttemptsTests {
    private static let refused = AMQPError.authenticationFailed(endpoint: "amqp://a", text: "ACCESS_REFUSED")
    private static let lost = AMQPError.connectFailed(endpoint: "amqp://a", reason: "nobody answered")

    private func attempts(_ bootPolicy: BootPolicy = .keepTrying) -> ConnectAttempts {
        ConnectAttempts(
            backoff: Backoff(minimum: .milliseconds(100), maximum: .seconds(1), factor: 2, jitter: 0),
            bootPolicy: bootPolicy
        )
    }

    @Test("each failure is told, with the time until the next attempt, which grows to the maximum")
    func pauses() {
        var attempts = attempts()
        for milliseconds in [100, 200, 400, 800, 1000, 1000] {
            let pause = Duration.milliseconds(milliseconds)
            let actions = attempts.failed(Self.lost, hasFailedEverywhere: true, random: 0)
            #expect(actions == [.report(Self.lost, retryIn: pause), .retry(after: pause)])
        }
    }

    @Test(
        "the pool ends with a refusal if it is told to, and no endpoint was better",
        arguments: [
            (BootPolicy.failWhenRefused, true, true), (.failWhenRefused, false, false), (.keepTrying, true, false),
        ]
    )
    func refusal(_ bootPolicy: BootPolicy, _ hasFailedEverywhere: Bool, _ ends: Bool) {
        var attempts = attempts(bootPolicy)
        let actions = attempts.failed(Self.refused, hasFailedEverywhere: hasFailedEverywhere, random: 0)
        let goesOn: [ConnectAttempts.Action] = [
            .report(Self.refused, retryIn: .milliseconds(100)), .retry(after: .milliseconds(100)),
        ]
        #expect(actions == (ends ? [.report(Self.refused, retryIn: nil), .endPool(Self.refused)] : goesOn))
    }

    @Test("a broker that cannot be reached is tried again, whatever the policy")
    func outage() {
        var attempts = attempts(.failWhenRefused)
        let actions = attempts.failed(Self.lost, hasFailedEverywhere: true, random: 0)
        #expect(actions.last == .retry(after: .milliseconds(100)))
    }

    @Test(
        "a connection with too few channels ends the pool, whatever the policy",
        arguments: [BootPolicy.keepTrying, .failWhenRefused]
    )
    func tooFewChannels(_ bootPolicy: BootPolicy) {
        var attempts = attempts(bootPolicy)
        let error = AMQPError.tooFewChannels(endpoint: "amqp://a", limit: 2, needed: 3)
        let actions = attempts.failed(error, hasFailedEverywhere: false, random: 0)
        #expect(actions == [.report(error, retryIn: nil), .endPool(error)])
    }
}
