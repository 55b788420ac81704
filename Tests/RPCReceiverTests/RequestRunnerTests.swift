import AMQPPool
import RPCWire
import Testing

@testable import RPCReceiver

@Suite("Running requests", .timeLimit(.minutes(5)))
struct RequestRunnerTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    @Test("a result is answered, and a cast's is only acknowledged")
    func result() async {
        let runner = runner()
        let call = FakeRequest("next")
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .result("2"))
        let cast = FakeRequest("next", replyTo: nil)
        runner.accept(cast, from: ObjectIdentifier(channel))
        #expect(await cast.ending() == .acknowledged)
        #expect(counters.current.answered == 2)
        #expect(runner.count == 0)
    }

    @Test("unknown and undecodable requests are answered with an error; casts of that kind are rejected")
    func refused() async {
        let runner = runner()
        for (procedure, body, code) in [
            ("what", "1", RPCFailure.Code.unknownProcedure), ("next", "{", .undecodableRequest),
        ] {
            let call = FakeRequest(procedure, body)
            runner.accept(call, from: ObjectIdentifier(channel))
            #expect(await call.ending() == .failure(code))
            let cast = FakeRequest(procedure, body, replyTo: nil)
            runner.accept(cast, from: ObjectIdentifier(channel))
            #expect(await cast.ending() == .rejected(requeue: false))
        }
    }

    @Test("a handler over the receiver's limit is cancelled and answered with an error")
    func limit() async {
        let runner = runner(limit: .milliseconds(20))
        let call = FakeRequest("wait")
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .failure(.handlerTimeout))
        #expect(counters.current.timedOut == 1)
    }

    @Test("a request whose caller has given up is acknowledged, and not answered")
    func expired() async {
        let runner = runner()
        let call = FakeRequest("wait", timeout: 20)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .acknowledged)
        #expect(counters.current.expired == 1)
    }

    @Test("a request that comes too late is dropped and counted, and its handler never runs")
    func expiredOnArrival() async {
        let gate = Gate()
        let runner = runner(gate: gate)
        for timeout: Int64 in [0, -5] {
            let call = FakeRequest("gated", timeout: timeout)
            runner.accept(call, from: ObjectIdentifier(channel))
            #expect(await call.ending() == .acknowledged)
        }
        #expect(gate.arrived == 0)
        #expect(counters.current.expired == 2)
        #expect(counters.current.expiredUnstarted == 2)
    }

    @Test("a request whose deadline passes while it waits for a place is dropped, and its handler never runs")
    func expiredInLine() async {
        let gate = Gate()
        let runner = runner(concurrency: 1, gate: gate)
        let first = FakeRequest("gated", "1")
        runner.accept(first, from: ObjectIdentifier(channel))
        let late = FakeRequest("gated", "2", timeout: 20)
        runner.accept(late, from: ObjectIdentifier(channel))
        #expect(await late.ending() == .acknowledged)
        gate.open()
        #expect(await first.ending() == .result("11"))
        #expect(gate.arrived == 1)
        #expect(counters.current.expiredUnstarted == 1)
    }

    @Test("what a handler calls inherits its deadline")
    func inherits() async {
        let call = FakeRequest("deadline", timeout: 60_000)
        runner().accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .result("true"))
    }

    @Test("the requests of a closed channel are cancelled and not answered, and free their places")
    func channelClosed() async {
        let runner = runner(concurrency: 1)
        let gone = FakeRequest("wait")
        runner.accept(gone, from: ObjectIdentifier(gone))
        let next = FakeRequest("next")
        runner.accept(next, from: ObjectIdentifier(channel))
        runner.channelClosed(ObjectIdentifier(gone), .channelClosed)
        #expect(await next.ending() == .result("2"))
        #expect(runner.count == 0)
    }

    @Test("it is idle when everything is answered")
    func idle() async {
        let runner = runner(limit: .milliseconds(20))
        let channel = ObjectIdentifier(channel)
        #expect(await runner.idle(channel, before: .now + .seconds(30)))
        let call = FakeRequest("wait")
        runner.accept(call, from: channel)
        #expect(await !runner.idle(channel, before: .now))
        #expect(await runner.idle(channel, before: .now + .seconds(30)))
        #expect(await call.ending() == .failure(.handlerTimeout))
    }

    @Test("after its end it takes nothing on, and answers nothing")
    func closes() async {
        let runner = runner()
        let call = FakeRequest("wait")
        runner.accept(call, from: ObjectIdentifier(channel))
        runner.close()
        #expect(await runner.idle(ObjectIdentifier(channel), before: .now + .seconds(30)))
        runner.accept(FakeRequest("next"), from: ObjectIdentifier(channel))
        #expect(runner.count == 0)
    }
}
