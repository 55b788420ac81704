import AMQPPool
import ConcurrencyPrimitives
import Logging
import NIOCore
import RPCWire
import Synchronization

@testable import RPCReceiver

/// A request without a broker, which notes how it was answered.
final class FakeRequest: IncomingRequest {
    enum Ending: Equatable {
        case result(String)
        case failure(RPCFailure.Code)
        case failureAndReject(RPCFailure.Code)
        case acknowledged
        case rejected(requeue: Bool)
        case answeredAlone(String)
    }

    let message: Result<RequestMessage, RPCFailure>
    let exchange: String
    let headers: FieldTable
    let replyTo: String?
    let correlationID: String? = "1"
    let redelivered: Bool
    let deliveryCount: Int64?
    /// When its caller gives up, if it was delivered when it was made.
    let deadline: ContinuousClock.Instant
    /// That of the connection that it came over.
    let eventLoop: (any EventLoop)?
    private let aloneOutcome: IsolatedOutcome
    private let endings: AsyncStream<Ending>.Continuation
    let stream: AsyncStream<Ending>

    init(
        _ procedure: String?,
        _ body: String = "1",
        replyTo: String? = "replies",
        id: String? = "1",
        timeout: Int64? = nil,
        redelivered: Bool = false,
        deliveryCount: Int64? = nil,
        exchange: String = "",
        headers: FieldTable = FieldTable(),
        eventLoop: (any EventLoop)? = nil,
        aloneOutcome: IsolatedOutcome = .delivered,
        unreadable: RPCFailure? = nil
    ) {
        self.eventLoop = eventLoop
        deadline = .now + .milliseconds(timeout ?? 0)
        self.exchange = exchange
        self.headers = headers
        self.aloneOutcome = aloneOutcome
        self.replyTo = replyTo
        self.redelivered = redelivered
        self.deliveryCount = deliveryCount
        let message = RequestMessage(
            destination: "test",
            procedure: procedure,
            correlationID: "1",
            messageID: id,
            replyTo: replyTo,
            timeoutMilliseconds: timeout,
            contentType: nil,
            headers: headers,
            body: ByteBuffer(string: body)
        )
        self.message = unreadable.map { .failure($0) } ?? .success(message)
        (stream, endings) = AsyncStream.makeStream()
    }

    func answer(_ reply: ReplyMessage) {
        endings.yield(reply.failure.map { .failure($0.code) } ?? .result(String(buffer: reply.body)))
    }
    func answerAndReject(_ reply: ReplyMessage) {
        endings.yield(.failureAndReject(reply.failure?.code ?? "none"))
    }
    func answerAlone(_ reply: ReplyMessage, over isolated: IsolatedReplies) async -> IsolatedOutcome {
        endings.yield(.answeredAlone(reply.failure?.code.rawValue ?? String(buffer: reply.body)))
        return aloneOutcome
    }
    func acknowledge() { endings.yield(.acknowledged) }
    func reject(requeue: Bool) { endings.yield(.rejected(requeue: requeue)) }

    /// How it ended first.
    func ending() async -> Ending? {
        await stream.first { _ in true }
    }

    /// What was done to it first, in order.
    func endings(_ count: Int) async -> [Ending] {
        var endings: [Ending] = []
        for await ending in stream {
            endings.append(ending)
            if endings.count == count { break }
        }
        return endings
    }
}

/// Holds handlers up, whatever becomes of their tasks, and counts them.
final class Gate: Sendable {
    private let count = Atomic(0)
    private let opened = OneShot<Void>()
    let arrivals: AsyncStream<Int>
    private let arrivalsContinuation: AsyncStream<Int>.Continuation

    init() {
        (arrivals, arrivalsContinuation) = AsyncStream.makeStream()
    }

    var arrived: Int { count.load(ordering: .acquiring) }

    /// Returns how many came before, and itself.
    func pass(_ n: Int) async -> Int {
        let order = count.add(1, ordering: .acquiringAndReleasing).newValue
        arrivalsContinuation.yield(n)
        await opened.settled()
        return order * 10 + n
    }

    func open() { opened.set(()) }
}

/// Ends when its task is cancelled.
func untilCancelled() async throws {
    let (stream, continuation) = AsyncStream.makeStream(of: Void.self)
    for await _ in stream {}
    withExtendedLifetime(continuation) {}
    try Task.checkCancellation()
}

struct Broken: Error {}

/// What suites about running requests have in common.
protocol RunsRequests {
    var counters: ReceiverCounters { get }
    /// Stands for a channel that requests come on.
    var channel: FakeRequest { get }
}

extension RunsRequests {
    func runner(
        concurrency: Int = 10,
        limit: Duration = .seconds(600),
        onFailure: RPCFailurePolicy = .acknowledge,
        maximum: Int = 1000,
        deduplication: RPCDeduplication? = nil,
        maximumWaiting: Int? = nil,
        admission: RequestAdmission = RequestAdmission(queue: "test.rpcs", exchange: "rpc", deliveryLimit: 3),
        interceptors: [any RPCReceiverInterceptor] = [],
        passesUpstreamFailures: Bool = false,
        logger: Logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() },
        permission: ReplyPermission = ReplyPermission(),
        memory: DeliveryMemory = DeliveryMemory(capacity: 10),
        gate: Gate = Gate(),
        procedures: [RPCHandler] = [],
        zombiesChanged: @escaping @Sendable (Int) -> Void = { _ in }
    ) -> RequestRunner {
        RequestRunner(
            procedures: RPCHandlers {
                procedures
                RPCHandler("next") { (n: Int, _) in n + 1 }
                RPCHandler("crash") { (_: Int, _) -> Int in throw Broken() }
                RPCHandler("wait") { (_: Int, _) in
                    try await untilCancelled()
                    return 1
                }
                RPCHandler("deadline") { (_: Int, context) in RPCDeadline.current == context.deadline }
                RPCHandler("gated") { (n: Int, _) in await gate.pass(n) }
                RPCHandler("large") { (n: Int, _) in String(repeating: "x", count: n) }
            },
            settings: RequestPolicy.Settings(
                admission: admission,
                concurrency: concurrency,
                handlerTimeLimit: limit,
                onFailure: onFailure,
                maximumMessageSize: maximum,
                exposesErrors: false,
                passesUpstreamFailures: passesUpstreamFailures,
                deduplication: deduplication,
                maximumWaiting: maximumWaiting,
                interceptors: interceptors
            ),
            counters: counters,
            logger: logger,
            permission: permission,
            memory: memory,
            isolated: IsolatedReplies(ConnectionConfiguration(), logger: Logger(label: "test")),
            zombiesChanged: zombiesChanged
        )
    }
}

extension RequestRunner {
    /// Takes on a request on a channel that is open from then on.
    func accept(_ request: FakeRequest, from channel: ObjectIdentifier) {
        channelOpened(channel)
        accept(request as any IncomingRequest, from: channel)
    }
}
