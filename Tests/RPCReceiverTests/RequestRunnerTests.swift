import Logging
import NIOCore
import NIOPosix
import RPCWire
import Synchronization
import Testing

@testable import RPCReceiver

/// A request without a broker, which notes how it was answered.
final class FakeRequest: IncomingRequest {
    enum Ending: Equatable {
        case result(String)
        case failure(RPCFailure.Code)
        case failureAndReject(RPCFailure.Code)
        case acknowledged
        case rejected(requeue: Bool)
    }

    let message: Result<RequestMessage, RPCFailure>
    let replyTo: String?
    let correlationID: String? = "1"
    let redelivered: Bool
    let deliveryCount: Int64?
    private let endings: AsyncStream<Ending>.Continuation
    let stream: AsyncStream<Ending>

    init(
        _ procedure: String,
        _ body: String = "1",
        replyTo: String? = "replies",
        id: String? = "1",
        timeout: Int64? = nil,
        redelivered: Bool = false,
        deliveryCount: Int64? = nil
    ) {
        self.replyTo = replyTo
        self.redelivered = redelivered
        self.deliveryCount = deliveryCount
        message = .success(
            RequestMessage(
                destination: "test",
                procedure: procedure,
                correlationID: "1",
                messageID: id,
                replyTo: replyTo,
                timeoutMilliseconds: timeout,
                contentType: nil,
                body: ByteBuffer(string: body)
            )
        )
        (stream, endings) = AsyncStream.makeStream()
    }

    func answer(_ reply: ReplyMessage) {
        endings.yield(reply.failure.map { .failure($0.code) } ?? .result(String(buffer: reply.body)))
    }
    func answerAndReject(_ reply: ReplyMessage) {
        endings.yield(.failureAndReject(reply.failure?.code ?? "none"))
    }
    func acknowledge() { endings.yield(.acknowledged) }
    func reject(requeue: Bool) { endings.yield(.rejected(requeue: requeue)) }

    /// How it ended first.
    func ending() async -> Ending? {
        await stream.first { _ in true }
    }
}

/// Holds handlers up, whatever becomes of their tasks, and counts them.
final class Gate: Sendable {
    private struct State {
        var isOpen = false
        var arrived = 0
        var held: [CheckedContinuation<Void, Never>] = []
    }

    private let state = Mutex(State())
    let arrivals: AsyncStream<Int>
    private let arrivalsContinuation: AsyncStream<Int>.Continuation

    init() {
        (arrivals, arrivalsContinuation) = AsyncStream.makeStream()
    }

    var arrived: Int { state.withLock { $0.arrived } }

    /// Returns how many came before, and itself.
    func pass(_ n: Int) async -> Int {
        let order = state.withLock { state in
            state.arrived += 1
            return state.arrived
        }
        arrivalsContinuation.yield(n)
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.held.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
        return order * 10 + n
    }

    func open() {
        let held = state.withLock { state in
            state.isOpen = true
            defer { state.held = [] }
            return state.held
        }
        for continuation in held { continuation.resume() }
    }
}

/// Ends when its task is cancelled.
private func untilCancelled() async throws {
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    for await _ in stream {}
    withExtendedLifetime(continuation) {}
    try Task.checkCancellation()
}

@Suite("Running requests", .timeLimit(.minutes(1)))
struct RequestRunnerTests {
    struct Broken: Error {}

    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    func runner(
        concurrency: Int = 10,
        limit: Duration = .seconds(30),
        onFailure: FailurePolicy = .acknowledge,
        maximum: Int = 1000,
        deduplication: RPCDeduplication? = nil,
        maximumWaiting: Int? = nil,
        gate: Gate = Gate(),
        zombiesChanged: @escaping @Sendable () -> Void = {}
    ) -> RequestRunner {
        RequestRunner(
            procedures: Procedures {
                Procedure("next") { (n: Int, _) in n + 1 }
                Procedure("crash") { (_: Int, _) -> Int in throw Broken() }
                Procedure("wait") { (_: Int, _) in
                    try await untilCancelled()
                    return 1
                }
                Procedure("deadline") { (_: Int, context) in RPCDeadline.current == context.deadline }
                Procedure("gated") { (n: Int, _) in await gate.pass(n) }
                Procedure("large") { (n: Int, _) in String(repeating: "x", count: n) }
            },
            settings: RequestRunner.Settings(
                concurrency: concurrency,
                handlerTimeLimit: limit,
                onFailure: onFailure,
                deliveryLimit: 3,
                maximumMessageSize: maximum,
                exposesErrors: false,
                deduplication: deduplication,
                maximumWaiting: maximumWaiting
            ),
            counters: counters,
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
            zombiesChanged: zombiesChanged
        )
    }

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

    // MARK: Repetitions

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
        runner.channelClosed(ObjectIdentifier(lost))
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

    // MARK: Too much

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
        let (changes, continuation) = AsyncStream.makeStream(of: Void.self)
        let runner = runner(concurrency: 1, limit: .milliseconds(20), gate: gate) { continuation.yield() }
        for _ in 0..<2 {
            let call = FakeRequest("gated")
            runner.accept(call, from: ObjectIdentifier(channel))
            #expect(await call.ending() == .failure(.handlerTimeout))
        }
        #expect(runner.zombieCount == 2)
        #expect(runner.count == 0)
        gate.open()
        for await _ in changes where runner.zombieCount == 0 { break }
        #expect(runner.zombieCount == 0)
    }

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

    @Test("the requests of a closed channel are cancelled and not answered, and free their places")
    func channelClosed() async {
        let runner = runner(concurrency: 1)
        let gone = FakeRequest("wait")
        runner.accept(gone, from: ObjectIdentifier(gone))
        let next = FakeRequest("next")
        runner.accept(next, from: ObjectIdentifier(channel))
        runner.channelClosed(ObjectIdentifier(gone))
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
