import AMQPPool
import RPCWire
import Testing

@testable import RPCReceiver

@Suite("A request for whose answer the broker closes a channel or a connection", .timeLimit(.minutes(5)))
struct RefusedAnswerTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    private static let refusals: [AMQPError] = [
        .connectionClosedByBroker(code: 541, text: "INTERNAL_ERROR"),
        .connectionClosedByBroker(code: 501, text: "FRAME_ERROR"),
        .channelClosedByBroker(code: 404, text: "NOT_FOUND - no exchange"),
        .channelClosedByBroker(code: 406, text: "PRECONDITION_FAILED - invalid message"),
        .channelClosedByBroker(code: 311, text: "CONTENT_TOO_LARGE"),
    ]

    @Test(
        "is not run again but acknowledged and counted, whatever the code",
        arguments: refusals,
        [true, false]
    )
    func refused(_ error: AMQPError, _ isMarked: Bool) async {
        let gate = Gate()
        gate.open()
        let runner = runner(gate: gate)
        let first = FakeRequest("gated", "7")
        runner.accept(first, from: ObjectIdentifier(channel))
        #expect(await first.ending() == .result("17"))
        runner.channelClosed(ObjectIdentifier(channel), error)
        let second = FakeRequest("gated", "7", redelivered: isMarked, aloneOutcome: .refused("541"))
        runner.accept(second, from: ObjectIdentifier(second))
        #expect(await second.endings(2) == [.answeredAlone("17"), .acknowledged])
        #expect(counters.current.unanswerable == 1)
        // The acknowledgement may be void too.
        let third = FakeRequest("gated", "7", redelivered: isMarked)
        runner.accept(third, from: ObjectIdentifier(third))
        #expect(await third.ending() == .acknowledged)
        #expect(counters.current.unanswerable == 2)
        #expect(gate.arrived == 1)
    }

    @Test("takes no other's answer with it: the others get theirs without being run again")
    func neighbours() async {
        let gate = Gate()
        gate.open()
        let runner = runner(gate: gate)
        for n in 1...3 {
            let request = FakeRequest("gated", "\(n)", id: "\(n)")
            runner.accept(request, from: ObjectIdentifier(channel))
            _ = await request.ending()
        }
        runner.channelClosed(ObjectIdentifier(channel), Self.refusals[0])
        for n in 1...3 {
            let request = FakeRequest("gated", "\(n)", id: "\(n)", redelivered: true)
            runner.accept(request, from: ObjectIdentifier(request))
            #expect(await request.endings(2) == [.answeredAlone("\(n * 11)"), .acknowledged])
        }
        #expect(gate.arrived == 3)
        #expect(counters.current.unanswerable == 0)
    }

    @Test("is told from another of the same ids by its body, and one that was not answered is run")
    func others() async {
        let gate = Gate()
        gate.open()
        let runner = runner(gate: gate)
        let first = FakeRequest("gated", "1")
        runner.accept(first, from: ObjectIdentifier(channel))
        _ = await first.ending()
        runner.channelClosed(ObjectIdentifier(channel), Self.refusals[0])
        let other = FakeRequest("gated", "2", redelivered: true)
        runner.accept(other, from: ObjectIdentifier(other))
        #expect(await other.ending() == .result("22"))
    }

    @Test("is run as before when the connection was only lost, or closed by an operator, less often than three times")
    func lost() async {
        let gate = Gate()
        gate.open()
        let runner = runner(gate: gate)
        let ends: [AMQPError] = [
            .connectionLost(reason: "reset"), .connectionClosedByBroker(code: 320, text: "CONNECTION_FORCED"),
            .heartbeatTimeout(interval: .seconds(1)),
        ]
        for (n, end) in ends.enumerated() {
            let request = FakeRequest("gated", redelivered: n > 0)
            runner.accept(request, from: ObjectIdentifier(request))
            #expect(await request.ending() == .result("\((n + 1) * 10 + 1)"))
            runner.channelClosed(ObjectIdentifier(request), end)
        }
        let last = FakeRequest("gated", redelivered: true)
        runner.accept(last, from: ObjectIdentifier(last))
        #expect(await last.endings(2) == [.answeredAlone("31"), .acknowledged])
        #expect(gate.arrived == 3)
    }

    @Test("whose answer cannot be sent alone for an unknown reason goes back three times, and is given up")
    func unknown() async {
        let runner = runner()
        let first = FakeRequest("next")
        runner.accept(first, from: ObjectIdentifier(channel))
        _ = await first.ending()
        runner.channelClosed(ObjectIdentifier(channel), Self.refusals[0])
        for last: FakeRequest.Ending in [.rejected(requeue: true), .rejected(requeue: true), .acknowledged] {
            let again = FakeRequest("next", redelivered: true, aloneOutcome: .unknown("no connection"))
            runner.accept(again, from: ObjectIdentifier(again))
            #expect(await again.endings(2) == [.answeredAlone("2"), last])
        }
    }

    @Test("holds up the drain of its channel until its answer was sent alone")
    func drain() async {
        let runner = runner()
        let first = FakeRequest("next")
        runner.accept(first, from: ObjectIdentifier(channel))
        _ = await first.ending()
        runner.channelClosed(ObjectIdentifier(channel), Self.refusals[0])
        let again = FakeRequest("next", redelivered: true)
        runner.accept(again, from: ObjectIdentifier(again))
        #expect(await runner.idle(ObjectIdentifier(again), before: .now + .seconds(60)))
        #expect(await again.endings(2) == [.answeredAlone("2"), .acknowledged])
    }
}
