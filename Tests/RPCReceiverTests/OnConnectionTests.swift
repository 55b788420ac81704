import AMQPPool
import Dispatch
import Logging
import NIOCore
import NIOPosix
import RPCWire
import Synchronization
import Testing

@testable import RPCReceiver

/// Handlers that run on the event loop of the connection that their request came over.
@Suite("Procedures that run on the connection", .timeLimit(.minutes(5)))
struct OnConnectionTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")
    let loop = MultiThreadedEventLoopGroup.singleton.next()

    private var isOnLoop: Bool { MultiThreadedEventLoopGroup.currentEventLoop === loop }

    /// Delivers a call as a connection does: on its event loop.
    private func deliver(_ requests: [FakeRequest], to runner: RequestRunner) async throws {
        let channel = ObjectIdentifier(channel)
        try await loop.submit { for request in requests { runner.accept(request, from: channel) } }.get()
    }

    private func ask(
        _ procedure: RPCHandler,
        _ body: String = "1",
        deduplication: RPCDeduplication? = nil,
        interceptors: [any RPCReceiverInterceptor] = []
    ) async throws -> FakeRequest.Ending? {
        let runner = runner(
            maximum: 1 << 20,
            deduplication: deduplication,
            interceptors: interceptors,
            procedures: [procedure]
        )
        let request = FakeRequest("here", body, eventLoop: loop)
        try await deliver([request], to: runner)
        return await request.ending()
    }

    @Test("a handler that is not async runs where its request is delivered, before the next one is")
    func direct() async throws {
        let order = Mutex<[Int]>([])
        let here = RPCHandler("here", runs: .onConnection) { [self] (n: Int, _) in
            order.withLock { $0.append(n) }
            return isOnLoop
        }
        let runner = runner(procedures: [here])
        let requests = (0..<10).map { FakeRequest("here", "\($0)", id: "\($0)", eventLoop: loop) }
        let channel = ObjectIdentifier(channel)
        let done = try await loop.submit {
            requests.map { request in
                runner.accept(request, from: channel)
                return runner.count
            }
        }.get()
        #expect(done == Array(repeating: 0, count: 10), "nothing is left when the delivery returns")
        #expect(order.withLock { $0 } == Array(0..<10))
        for request in requests { #expect(await request.ending() == .result("true")) }
        #expect(counters.current.answered == 10)
    }

    @Test("an async one begins there, and goes on with the pool's threads after it has waited")
    func suspending() async throws {
        let here = RPCHandler("here", runs: .onConnection) { [self] (_: Int, _) async -> [Bool] in
            let before = isOnLoop
            await Task.yield()
            return [before, isOnLoop]
        }
        #expect(try await ask(here) == .result("[true,false]"))
    }

    @Test("without being told so, a handler runs on the pool, async or not")
    func pool() async throws {
        let plain = RPCHandler("here") { [self] (_: Int, _) in isOnLoop }
        #expect(try await ask(plain) == .result("false"))
        let direct = RPCHandler("here", runs: .onPool) { [self] (_: Int, _) in isOnLoop }
        #expect(try await ask(direct) == .result("false"))
    }

    @Test("declared procedures and the default one can be told so too")
    func forms() async throws {
        let declaration = RPCProcedure<Int, Bool>("here")
        let declared = RPCHandler(declaration, runs: .onConnection) { [self] _, _ in isOnLoop }
        #expect(try await ask(declared) == .result("true"))
        let runner = runner(procedures: [.default(runs: .onConnection) { [self] (_: Int, _) in isOnLoop }])
        let request = FakeRequest(nil, eventLoop: loop)
        try await deliver([request], to: runner)
        #expect(await request.ending() == .result("true"))
    }

    @Test("with interceptors or a deduplication it begins there in a task")
    func inTask() async throws {
        struct Pass: RPCReceiverInterceptor {
            func intercept(_ request: RPCRequest, _ context: RPCContext, next: RPCReceiverNext) async throws -> RPCReply
            {
                try await next(request, context)
            }
        }
        let here = RPCHandler("here", runs: .onConnection) { [self] (_: Int, _) in isOnLoop }
        #expect(try await ask(here, interceptors: [Pass()]) == .result("true"))
        #expect(try await ask(here, deduplication: RPCDeduplication()) == .result("true"))
    }

    @Test("it knows its deadline as others do, and what it throws is answered as theirs is")
    func sameAsOthers() async throws {
        let deadline = RPCHandler("here", runs: .onConnection) { (_: Int, context) in
            RPCDeadline.current == context.deadline
        }
        #expect(try await ask(deadline) == .result("true"))
        let failing = RPCHandler("here", runs: .onConnection) { (_: Int, _) -> Int in
            throw RPCFailure(code: "sold_out", message: "none left")
        }
        #expect(try await ask(failing) == .failure("sold_out"))
        let crashing = RPCHandler("here", runs: .onConnection) { (_: Int, _) -> Int in throw Broken() }
        #expect(try await ask(crashing) == .failure(.internalError))
        let unreadable = RPCHandler("here", runs: .onConnection) { (n: Int, _) in n }
        #expect(try await ask(unreadable, "x") == .failure(.undecodableRequest))
    }

    @Test("a large argument, and what is too much for one turn of the loop, go to the pool")
    func bounded() async throws {
        let here = RPCHandler("here", runs: .onConnection) { [self] (_: String, _) in isOnLoop }
        let large = "\"\(String(repeating: "x", count: ConnectionTurns.largestBody))\""
        #expect(try await ask(here, large) == .result("false"))

        let runner = runner(concurrency: 1_000, procedures: [here])
        for _ in 0..<2 {
            let requests = (0..<100).map { FakeRequest("here", "\"\"", id: "\($0)", eventLoop: loop) }
            try await deliver(requests, to: runner)
            var there = 0
            for request in requests where await request.ending() == .result("true") { there += 1 }
            #expect(there == ConnectionTurns.limit)
        }
    }

    @Test("what waits for a place is answered as well, however many wait")
    func waiting() async throws {
        let gate = Gate()
        let here = RPCHandler("here", runs: .onConnection) { (n: Int, _) in n }
        // One after another: on a busy machine the last waits for minutes.
        let runner = runner(concurrency: 1, limit: .seconds(600), gate: gate, procedures: [here])
        let first = FakeRequest("gated", eventLoop: loop)
        let others = (0..<5_000).map { FakeRequest("here", "\($0)", id: "\($0)", eventLoop: loop) }
        try await deliver([first] + others, to: runner)
        #expect(runner.count == 5_001)
        gate.open()
        for (n, request) in others.enumerated() { #expect(await request.ending() == .result("\(n)")) }
        #expect(runner.count == 0)
    }

    @Test("one that holds the loop is named in a warning, once, and its caller is told in time that it took too long")
    func blocking() async throws {
        let lines = Lines()
        let (release, blocks) = (DispatchSemaphore(value: 0), RPCHandler.Place.onConnection)
        let runner = runner(
            limit: .milliseconds(20),
            logger: Logger(label: "test") { _ in lines },
            procedures: [
                RPCHandler("block", runs: blocks) { (_: Int, _) -> Int in
                    release.wait()
                    return 1
                }
            ]
        )
        let requests = (0..<2).map { FakeRequest("block", id: "\($0)", eventLoop: loop) }
        async let delivered: Void = deliver(requests, to: runner)
        for request in requests {
            #expect(await request.ending() == .failure(.handlerTimeout))
            release.signal()
        }
        try await delivered
        #expect(lines.warnings.filter { $0.contains("the procedure \"block\" held the event loop") }.count == 1)
        #expect(runner.count == 0)
        #expect(runner.zombieCount == 0)
    }

    @Test("the end of its channel while it runs answers nobody")
    func channelCloses() async throws {
        let id = ObjectIdentifier(channel)
        let handle = Mutex<RequestRunner?>(nil)
        let runner = runner(procedures: [
            RPCHandler("here", runs: .onConnection) { (n: Int, _) in
                handle.withLock { $0 }?.channelClosed(id, .channelClosed)
                return n
            }
        ])
        handle.withLock { $0 = runner }
        let request = FakeRequest("here", eventLoop: loop)
        try await deliver([request], to: runner)
        #expect(runner.count == 0)
        #expect(counters.current.answered == 0)
        handle.withLock { $0 = nil }
    }
}

/// Keeps warnings.
private final class Lines: LogHandler, Sendable {
    private let kept = Mutex<[String]>([])
    var warnings: [String] { kept.withLock { $0 } }
    var metadata: Logger.Metadata {
        get { [:] }
        set {}
    }
    var logLevel: Logger.Level {
        get { .warning }
        set {}
    }
    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { nil }
        set {}
    }
    func log(event: LogEvent) {
        if event.level == .warning { kept.withLock { $0.append("\(event.message)") } }
    }
}
