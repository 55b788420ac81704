import AMQPPool
import NIOCore
import RPCWire
import Synchronization
import Testing

@testable import RPCReceiver

@Suite("Interceptors and a deduplication", .timeLimit(.minutes(5)))
struct InterceptedRepetitionTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    /// Lets nobody through who does not know the word.
    private struct Authorization: RPCReceiverInterceptor {
        func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply {
            guard request.headers["token"] == "sesame" else { throw RPCFailure(code: "forbidden", message: "") }
            return try await next(request, context)
        }
    }

    private func call(_ runner: RequestRunner, _ headers: FieldTable) async -> FakeRequest.Ending? {
        let call = FakeRequest("gated", "5", headers: headers)
        runner.accept(call, from: ObjectIdentifier(channel))
        return await call.ending()
    }

    @Test("who repeats another's message id gets no stored answer past an interceptor, and its refusal is not stored")
    func authorized() async {
        let gate = Gate()
        gate.open()
        let runner = runner(deduplication: RPCDeduplication(), interceptors: [Authorization()], gate: gate)
        #expect(await call(runner, [:]) == .failure("forbidden"))
        #expect(await call(runner, ["token": "sesame"]) == .result("15"))
        #expect(await call(runner, [:]) == .failure("forbidden"))
        #expect(await call(runner, ["token": "sesame"]) == .result("15"))
        #expect(gate.arrived == 1)
        #expect(counters.current.repeated == 1)
        #expect(counters.current.answered == 1)
    }

    @Test("one that waits for another's answer passes the interceptors first, and takes no place meanwhile")
    func following() async {
        let gate = Gate()
        let runner = runner(
            concurrency: 2,
            deduplication: RPCDeduplication(),
            interceptors: [Authorization()],
            gate: gate
        )
        let headers: FieldTable = ["token": "sesame"]
        let calls = (0..<5).map { _ in FakeRequest("gated", "5", headers: headers) }
        for call in calls { runner.accept(call, from: ObjectIdentifier(channel)) }
        #expect(await gate.arrivals.first { _ in true } == 5)
        // It finds a place although five are there.
        let other = FakeRequest("next", id: "other", headers: headers)
        runner.accept(other, from: ObjectIdentifier(channel))
        #expect(await other.ending() == .result("2"))
        let refused = FakeRequest("gated", "5")
        runner.accept(refused, from: ObjectIdentifier(channel))
        #expect(await refused.ending() == .failure("forbidden"))
        gate.open()
        for call in calls { #expect(await call.ending() == .result("15")) }
        #expect(gate.arrived == 1)
        #expect(counters.current.repeated == 4)
    }

    @Test(
        "what an interceptor makes of an answer is made of a repeated one too, and an answer of its own is not stored"
    )
    func changed() async {
        struct Answers: RPCReceiverInterceptor {
            let count: @Sendable () -> Int
            func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply
            {
                let n = count()
                if n == 1 { return RPCReply(body: .init(string: "0")) }
                var reply = try await next(request, context)
                reply.body = .init(string: String(buffer: reply.body) + "#\(n)")
                return reply
            }
        }
        let gate = Gate()
        gate.open()
        let counter = Mutex(0)
        let answers = Answers {
            counter.withLock { count in
                count += 1
                return count
            }
        }
        let runner = runner(deduplication: RPCDeduplication(), interceptors: [answers], gate: gate)
        #expect(await call(runner, [:]) == .result("0"))
        #expect(await call(runner, [:]) == .result("15#2"))
        #expect(await call(runner, [:]) == .result("15#3"))
        #expect(gate.arrived == 1)
    }

    @Test("one whose time is over while it waits for another's answer is given up, and the other goes on")
    func expiresWaiting() async {
        let gate = Gate()
        let runner = runner(deduplication: RPCDeduplication(), gate: gate)
        let first = FakeRequest("gated", "5")
        runner.accept(first, from: ObjectIdentifier(channel))
        #expect(await gate.arrivals.first { _ in true } == 5)
        let second = FakeRequest("gated", "5", timeout: 20)
        runner.accept(second, from: ObjectIdentifier(channel))
        #expect(await second.ending() == .acknowledged)
        gate.open()
        #expect(await first.ending() == .result("15"))
        #expect(await runner.idle(ObjectIdentifier(channel), before: .now + .seconds(30)))
        #expect(runner.zombieCount == 0)
    }
}
