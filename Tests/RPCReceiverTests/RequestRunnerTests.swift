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
                messageID: "1",
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
        maximum: Int = 1000
    ) -> RequestRunner {
        RequestRunner(
            procedures: Procedures {
                Procedure("next") { (n: Int, _) in n + 1 }
                Procedure("crash") { (_: Int, _) -> Int in throw Broken() }
                Procedure("wait") { (_: Int, _) in
                    try await untilCancelled()
                    return 1
                }
                Procedure("large") { (n: Int, _) in String(repeating: "x", count: n) }
            },
            settings: RequestRunner.Settings(
                concurrency: concurrency,
                handlerTimeLimit: limit,
                onFailure: onFailure,
                deliveryLimit: 3,
                maximumMessageSize: maximum,
                exposesErrors: false
            ),
            counters: counters,
            eventLoop: MultiThreadedEventLoopGroup.singleton.next(),
            logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
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
