import AMQPPool
import RPCWire
import Testing

@testable import RPCReceiver

@Suite("Requests that fail", .timeLimit(.minutes(5)))
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
            (RPCFailurePolicy.acknowledge, false, FakeRequest.Ending.failure(.internalError)),
            (.acknowledge, true, .failure(.internalError)),
            (.reject, false, .failureAndReject(.internalError)),
            (.requeue, true, .rejected(requeue: true)),
            (.requeueOnce, false, .rejected(requeue: true)),
            (.requeueOnce, true, .failureAndReject(.internalError)),
        ]
    )
    func policies(_ policy: RPCFailurePolicy, _ redelivered: Bool, _ ending: FakeRequest.Ending) async {
        let runner = runner(onFailure: policy)
        let call = FakeRequest("crash", redelivered: redelivered)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == ending)
    }

    private func admission(counts: Bool?) -> RequestAdmission {
        RequestAdmission(queue: "test.rpcs", exchange: "rpc", deliveryLimit: 3, brokerCounts: counts)
    }

    @Test(
        "a count of deliveries is believed where the broker writes it, and not where a publisher may have",
        arguments: [
            (Bool?.some(true), true, Int64(3), true), (nil, true, 3, true), (true, true, .max, true),
            (true, true, 2, false),
            (true, false, 100, false), (false, true, 100, false), (true, true, -1, false), (true, true, .min, false),
        ]
    )
    func counted(_ counts: Bool?, _ redelivered: Bool, _ count: Int64, _ isPoison: Bool) async {
        let runner = runner(admission: admission(counts: counts))
        let call = FakeRequest("next", redelivered: redelivered, deliveryCount: count)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == (isPoison ? .failureAndReject(.poison) : .result("2")))
    }

    @Test(
        "where nobody counts, one that is requeued each time is given up at the limit all the same",
        arguments: [("1", true), (nil, true), ("1", false)]
    )
    func requeuedForEver(_ id: String?, _ isMarked: Bool) async {
        let runner = runner(onFailure: .requeue, admission: admission(counts: false))
        for attempt in 1...3 {
            let call = FakeRequest("crash", id: id, redelivered: attempt > 1 && isMarked)
            runner.accept(call, from: ObjectIdentifier(call))
            #expect(await call.ending() == (attempt < 3 ? .rejected(requeue: true) : .failureAndReject(.poison)))
        }
        let other = FakeRequest("crash", "2", id: id, redelivered: true)
        runner.accept(other, from: ObjectIdentifier(channel))
        #expect(await other.ending() == .rejected(requeue: true))
        #expect(counters.current.poisoned == 1)
    }

    @Test("one with an id is requeued once, and recognised when it comes again without the broker's mark")
    func requeuedOnce() async {
        let runner = runner(onFailure: .requeueOnce, admission: admission(counts: false))
        for ending: FakeRequest.Ending in [.rejected(requeue: true), .failureAndReject(.internalError)] {
            let call = FakeRequest("crash", id: "1")
            runner.accept(call, from: ObjectIdentifier(call))
            #expect(await call.ending() == ending)
        }
        // It is not known whether this is one request or two.
        for _ in 0..<2 {
            let call = FakeRequest("crash", id: nil)
            runner.accept(call, from: ObjectIdentifier(call))
            #expect(await call.ending() == .rejected(requeue: true))
        }
        #expect(counters.current.redelivered == 1)
    }

    @Test(
        "one that comes again after its caller's deadline, counted from its first delivery, is not run",
        arguments: [true, false]
    )
    func lateAgain(_ isMarked: Bool) async {
        let gate = Gate()
        let memory = DeliveryMemory(capacity: 10)
        let runner = runner(memory: memory, gate: gate)
        let again = FakeRequest("gated", timeout: 60_000, redelivered: isMarked)
        memory.left(DeliveryMemory.Key(again), deadline: .now + .seconds(-1))
        memory.closed(ObjectIdentifier(channel), .connectionLost(reason: "reset"))
        runner.accept(again, from: ObjectIdentifier(channel))
        #expect(await again.ending() == .acknowledged)
        #expect(gate.arrived == 0)
        #expect(counters.current.expiredUnstarted == 1)
    }

    @Test("a request that was delivered too often is given up, with an error")
    func poison() async {
        let runner = runner(admission: admission(counts: true))
        let call = FakeRequest("next", redelivered: true, deliveryCount: 3)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .failureAndReject(.poison))
        #expect(counters.current.poisoned == 1)
    }
}
