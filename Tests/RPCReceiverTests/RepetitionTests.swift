import AMQPPool
import RPCWire
import Testing

@testable import RPCReceiver

@Suite("Requests that come again", .timeLimit(.minutes(5)))
struct RepetitionTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    @Test("a repetition gets the stored reply, with its own correlation id, and no handler runs; another id's does")
    func repeated() async {
        let gate = Gate()
        gate.open()
        let runner = runner(deduplication: RPCDeduplication(), gate: gate)
        for (id, result) in [("1", "15"), ("1", "15"), ("2", "25"), ("1", "15")] {
            let call = FakeRequest("gated", "5", id: id)
            runner.accept(call, from: ObjectIdentifier(channel))
            #expect(await call.ending() == .result(result))
        }
        let cast = FakeRequest("gated", "5", replyTo: nil)
        runner.accept(cast, from: ObjectIdentifier(channel))
        #expect(await cast.ending() == .acknowledged)
        #expect(gate.arrived == 2)
        #expect(counters.current.repeated == 3)
        for result in ["35", "45"] {
            let nameless = FakeRequest("gated", "5", id: nil)
            runner.accept(nameless, from: ObjectIdentifier(channel))
            #expect(await nameless.ending() == .result(result))
        }
    }

    @Test("repetitions that come at the same time wait for the first one's answer, failures included")
    func repeatedAtOnce() async {
        let gate = Gate()
        let runner = runner(concurrency: 1, deduplication: RPCDeduplication(), gate: gate)
        let calls = (0..<5).map { _ in FakeRequest("gated", "5") }
        for call in calls { runner.accept(call, from: ObjectIdentifier(channel)) }
        gate.open()
        for call in calls { #expect(await call.ending() == .result("15")) }
        #expect(gate.arrived == 1)
        #expect(runner.count == 0)
        for _ in 0..<2 {
            let crashed = FakeRequest("crash", id: "3")
            runner.accept(crashed, from: ObjectIdentifier(channel))
            #expect(await crashed.ending() == .failure(.internalError))
        }
        #expect(counters.current.failed == 1)
    }

    @Test("when the channel of the first is lost, the next repetition is worked on")
    func firstIsLost() async {
        let gate = Gate()
        let runner = runner(deduplication: RPCDeduplication(), gate: gate)
        let lost = FakeRequest("gated", "5")
        runner.accept(lost, from: ObjectIdentifier(lost))
        let next = FakeRequest("gated", "6")
        runner.accept(next, from: ObjectIdentifier(channel))
        #expect(await gate.arrivals.first { _ in true } == 5)
        runner.channelClosed(ObjectIdentifier(lost), .channelClosed)
        gate.open()
        #expect(await next.ending() == .result("26"))
        #expect(await runner.idle(ObjectIdentifier(channel), before: .now + .seconds(30)))
    }

    @Test("what is requeued is not stored: it is worked on again")
    func requeuedIsNotStored() async {
        let runner = runner(onFailure: .requeue, deduplication: RPCDeduplication())
        for _ in 0..<2 {
            let call = FakeRequest("crash")
            runner.accept(call, from: ObjectIdentifier(channel))
            #expect(await call.ending() == .rejected(requeue: true))
        }
        #expect(counters.current.repeated == 0)
    }
}
