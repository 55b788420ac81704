import AMQPPool
import NIOCore
import RPCWire
import Testing

@testable import RPCReceiver

/// Every combination of what can be said against a request, and what is decided then.
@Suite("What is decided about a delivered request")
struct RequestDecisionTests {
    private enum Envelope: CaseIterable { case fits, misdirected, forbiddenReplyQueue, tooLarge }

    private enum Earlier: CaseIterable { case unknown, answered, answeredAtLength, ran, ranAtLength, refused }

    private struct Case: CustomStringConvertible {
        var envelope: Envelope
        var isCall: Bool
        var brokerRefuses: Bool
        var isRedelivered: Bool
        var earlier: Earlier
        var isReadable: Bool
        /// How often its handler failed here, of three times at the most.
        var requeues: Int
        /// The time of the caller, in milliseconds, and what is left of it from an earlier delivery.
        var timeout: Int64?
        var timeLeft: Int64?

        var description: String {
            "\(envelope) call=\(isCall) refuses=\(brokerRefuses) redelivered=\(isRedelivered) \(earlier) readable=\(isReadable) "
                + "requeues=\(requeues) timeout=\(String(describing: timeout)) left=\(String(describing: timeLeft))"
        }
    }

    private static let now = CompactInstant.now
    private static let limits = RequestAdmission.Limits(handlerTimeLimit: .seconds(10), maximumReplySize: 100)
    private static let admission = RequestAdmission(
        queue: "math.rpcs",
        exchange: "rpc",
        bindings: [["x-match": "all", "destination": "math"]],
        deliveryLimit: 3,
        maximumRequestSize: 10
    )

    private static let cases: [Case] = {
        var cases: [Case] = []
        for envelope in Envelope.allCases {
            for earlier in Earlier.allCases {
                for flags in 0..<16 {
                    for requeues in [0, 2, 3] {
                        for timeout in [nil, 0, 5_000, 20_000] as [Int64?] {
                            for timeLeft in [nil, -1, 3_000] as [Int64?] {
                                cases.append(
                                    Case(
                                        envelope: envelope,
                                        isCall: flags & 1 == 0,
                                        brokerRefuses: flags & 2 == 0,
                                        isRedelivered: flags & 4 == 0,
                                        earlier: earlier,
                                        isReadable: flags & 8 == 0,
                                        requeues: requeues,
                                        timeout: timeout,
                                        timeLeft: timeLeft
                                    )
                                )
                            }
                        }
                    }
                }
            }
        }
        return cases
    }()

    @Test(
        "is the first that speaks against it, in a fixed order; a history is looked up only for a redelivered request"
    )
    func decisions() {
        for each in Self.cases {
            let (decided, lookedUp) = Self.decide(each)
            let expected = Self.expected(each)
            guard decided == expected else {
                Issue.record("\(each): \(decided) instead of \(expected)")
                return
            }
            let isAccepted = expected != "misdirected" && expected != "reply queue" && expected != "too large"
            #expect(lookedUp == (each.isRedelivered && isAccepted && expected != "no replies"), "\(each)")
        }
    }

    /// The order, as a list: the first line that applies.
    private static func expected(_ each: Case) -> String {
        let hasHistory = each.isRedelivered
        let earlier = hasHistory && each.isCall ? each.earlier : .unknown
        // The deadline of the first delivery goes on.
        let deadlines = [each.timeout, hasHistory ? each.timeLeft : nil].compactMap { $0 }
        let rules: [(applies: Bool, decision: String)] = [
            (each.envelope == .misdirected, "misdirected"),
            (each.envelope == .forbiddenReplyQueue && each.isCall, "reply queue"),
            (each.envelope == .tooLarge && each.isReadable, "too large"),
            (each.brokerRefuses && each.isCall, "no replies"),
            (earlier == .refused, "refused before"),
            (earlier == .answered, "answer alone"),
            (earlier == .answeredAtLength || earlier == .ranAtLength, "answer too large"),
            (!each.isReadable, "unreadable"),
            (hasHistory && each.requeues >= 3, "poison"),
            (deadlines.contains { $0 <= 0 }, "expired"),
        ]
        if let rule = rules.first(where: \.applies) { return rule.decision }
        let alone = earlier == .ran ? ", answered alone" : ""
        guard let deadline = deadlines.min(), deadline < 10_000 else { return "accepted for 10000, own\(alone)" }
        return "accepted for \(deadline), the caller's\(alone)"
    }

    private static func decide(_ each: Case) -> (String, lookedUp: Bool) {
        let request = FakeRequest(
            "next",
            each.envelope == .tooLarge ? "12345678901" : "1",
            replyTo: !each.isCall ? nil : each.envelope == .forbiddenReplyQueue ? "other.rpcs" : "replies",
            timeout: each.timeout,
            redelivered: each.isRedelivered,
            exchange: "rpc",
            headers: ["destination": each.envelope == .misdirected ? "billing" : "math"],
            unreadable: each.isReadable ? nil : RPCFailure(code: .undecodableRequest, message: "unreadable")
        )
        let refusal = each.brokerRefuses ? "no replies" : nil
        switch admission.arrived(request, isRedelivered: request.redelivered, brokerRefusal: refusal, limits, at: now) {
        case .decided(let decision): return (text(decision), false)
        case .lookUpHistory:
            let history = RequestAdmission.History(
                answer: answer(each.earlier),
                requeues: each.requeues,
                deadline: each.timeLeft.map { now + .milliseconds($0) }
            )
            return (text(admission.decide(request, history, limits, at: now)), true)
        }
    }

    private static func answer(_ earlier: Earlier) -> DeliveryHistory<ObjectIdentifier>.Arrival {
        switch earlier {
        case .unknown: .run
        case .answered: .answerAlone(reply(size: 100))
        case .answeredAtLength: .answerAlone(reply(size: 101))
        case .ran: .runAndAnswerAlone(size: 100)
        case .ranAtLength: .runAndAnswerAlone(size: 101)
        case .refused: .giveUp("refused before")
        }
    }

    private static func reply(size: Int) -> ReplyMessage {
        let body = ByteBuffer(repeating: 0, count: size)
        return ReplyMessage(result: RPCReply(body: body), correlationID: "1")
    }

    private static func text(_ decision: RequestAdmission.Decision) -> String {
        switch decision {
        case .accept(let accepted):
            let time = now.duration(to: accepted.deadline) / .milliseconds(1)
            return "accepted for \(Int(time)), \(accepted.isCallersDeadline ? "the caller's" : "own")"
                + (accepted.isAnsweredAlone ? ", answered alone" : "")
        case .turnAway(.misdirected): return "misdirected"
        case .turnAway(.replyQueue): return "reply queue"
        case .turnAway(.failure): return "too large"
        case .giveUpUnanswerable(let text): return text
        case .giveUpRefused(let text): return text
        case .answerAlone: return "answer alone"
        case .refuseLargeAnswer: return "answer too large"
        case .refuseUnreadable: return "unreadable"
        case .giveUpPoison(_, let attempts):
            #expect(attempts == 3)
            return "poison"
        case .dropExpired: return "expired"
        }
    }
}
