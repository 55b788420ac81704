import AMQPPool
import RPCWire
import Testing

@testable import RPCReceiver

@Suite("A receiver that may not answer", .timeLimit(.minutes(5)))
struct ReplyPermissionTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    private static let words = "ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'shop'"

    @Test("rejects calls instead of running them for ever, and runs casts as always")
    func rejects() async {
        let permission = ReplyPermission()
        let gate = Gate()
        gate.open()
        let runner = runner(permission: permission, gate: gate)
        permission.learn(from: .channelClosedByBroker(code: 403, text: Self.words))
        for redelivered in [true, false] {
            let call = FakeRequest("gated", redelivered: redelivered)
            runner.accept(call, from: ObjectIdentifier(channel))
            #expect(await call.ending() == .rejected(requeue: false))
        }
        #expect(gate.arrived == 0)
        #expect(counters.current.unanswerable == 2)
        let cast = FakeRequest("gated", replyTo: nil)
        runner.accept(cast, from: ObjectIdentifier(channel))
        #expect(await cast.ending() == .acknowledged)
        #expect(gate.arrived == 1)
    }

    @Test("tries again after a while, since the right may have been granted")
    func forgets() {
        let permission = ReplyPermission()
        let now = ContinuousClock.now
        #expect(permission.refusal(at: now) == nil)
        #expect(permission.learn(from: .channelClosedByBroker(code: 403, text: Self.words), at: now) == Self.words)
        #expect(permission.refusal(at: now) == Self.words)
        #expect(permission.refusal(at: now + ReplyPermission.memory) == nil)
    }

    @Test(
        "is not one to whom something else is refused",
        arguments: [
            AMQPError.channelClosedByBroker(
                code: 403,
                text: "ACCESS_REFUSED - access to queue 'math.rpcs' in vhost '/'"
            ),
            .channelClosedByBroker(code: 404, text: "NOT_FOUND - no exchange 'amq.default'"), .channelClosed,
        ]
    )
    func others(_ error: AMQPError) {
        let permission = ReplyPermission()
        #expect(permission.learn(from: error) == nil)
        #expect(permission.refusal(at: .now) == nil)
    }
}
