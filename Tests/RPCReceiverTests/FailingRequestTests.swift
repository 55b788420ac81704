import RPCWire
import Testing

@testable import RPCReceiver

@Suite("Requests that fail", .timeLimit(.minutes(1)))
struct FailingRequestTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    @Test("a result larger than a message may be is an error, not a broken channel")
    func large() async {
        let runner = runner(maximum: 300)
        let call = FakeRequest("large", "299")
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .failure(.unencodableResult))
    }

    @Test(
        "a crash ends by policy",
        arguments: [
            (FailurePolicy.acknowledge, false, FakeRequest.Ending.failure(.internalError)),
            (.acknowledge, true, .failure(.internalError)),
            (.reject, false, .failureAndReject(.internalError)),
            (.requeue, true, .rejected(requeue: true)),
            (.requeueOnce, false, .rejected(requeue: true)),
            (.requeueOnce, true, .failureAndReject(.internalError)),
        ]
    )
    func policies(_ policy: FailurePolicy, _ redelivered: Bool, _ ending: FakeRequest.Ending) async {
        let runner = runner(onFailure: policy)
        let call = FakeRequest("crash", redelivered: redelivered)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == ending)
    }

    @Test("a request that was delivered too often is given up, with an error")
    func poison() async {
        let runner = runner()
        let call = FakeRequest("next", redelivered: true, deliveryCount: 3)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .failureAndReject(.poison))
        #expect(counters.current.poisoned == 1)
    }
}
