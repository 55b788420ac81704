import RPCWire
import Testing

@testable import RPCReceiver

@Suite("More requests than may run", .timeLimit(.minutes(5)))
struct OverloadTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    @Test("with all places taken and as many waiting as may, a call is shed at once, and a cast waits")
    func sheds() async {
        let gate = Gate()
        let runner = runner(concurrency: 1, maximumWaiting: 1, gate: gate)
        let taken = (1...2).map { FakeRequest("gated", "\($0)") }
        for call in taken { runner.accept(call, from: ObjectIdentifier(channel)) }
        let shed = FakeRequest("gated")
        runner.accept(shed, from: ObjectIdentifier(channel))
        #expect(await shed.ending() == .failure(.overloaded))
        let cast = FakeRequest("gated", replyTo: nil)
        runner.accept(cast, from: ObjectIdentifier(channel))
        gate.open()
        for call in taken { #expect(await call.ending() != nil) }
        #expect(await cast.ending() == .acknowledged)
        #expect(counters.current.shed == 1)
        #expect(counters.current.answered == 3)
    }

    @Test("a handler that ignores its cancellation is answered for, frees its place, and is counted until it ends")
    func zombies() async {
        let gate = Gate()
        let (changes, continuation) = AsyncStream.makeStream(of: Int.self)
        let runner = runner(concurrency: 1, limit: .milliseconds(20), gate: gate) { continuation.yield($0) }
        // One that does not get its turn before its time is over does not begin.
        while gate.arrived < 2 {
            let call = FakeRequest("gated")
            runner.accept(call, from: ObjectIdentifier(channel))
            #expect(await call.ending() == .failure(.handlerTimeout))
        }
        #expect(await changes.first { $0 == 2 } == 2)
        #expect(runner.zombieCount == 2)
        #expect(runner.count == 0)
        gate.open()
        #expect(await changes.first { $0 == 0 } == 0)
        #expect(runner.zombieCount == 0)
    }
}
