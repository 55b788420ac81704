import AMQPPool
import BrokerSupport
import Logging
import RPCWire
import Synchronization
import Testing

@testable import RPCReceiver

@Suite("Which requests a receiver looks at", .timeLimit(.minutes(5)))
struct RequestAdmissionTests: RunsRequests {
    let counters = ReceiverCounters()
    let channel = FakeRequest("")

    private static func admission(_ bindings: [FieldTable] = [], _ replyQueues: RPCReplyQueues = .notRequestQueues)
        -> RequestAdmission
    {
        RequestAdmission(
            queue: "math.rpcs",
            exchange: "rpc",
            bindings: bindings,
            replyQueues: replyQueues,
            deliveryLimit: 3,
            maximumRequestSize: 100
        )
    }

    private static let math: FieldTable = ["x-match": "all", "destination": "math"]

    @Test(
        "what comes through the exchange has to match a binding; what is sent to the queue by name has not",
        arguments: [
            ("rpc", ["destination": "math"], true), ("rpc", ["destination": "billing"], false), ("rpc", [:], false),
            ("", ["destination": "billing"], true), ("", [:], true), ("another", ["destination": "billing"], true),
        ] as [(String, FieldTable, Bool)]
    )
    func misdirected(_ exchange: String, _ headers: FieldTable, _ isRun: Bool) async {
        let runner = runner(admission: Self.admission([Self.math]))
        let call = FakeRequest("next", exchange: exchange, headers: headers)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == (isRun ? .result("2") : .rejected(requeue: false)))
        #expect(counters.current.misdirected == (isRun ? 0 : 1))
    }

    @Test(
        "a binding matches as the broker matches it",
        arguments: [
            (["x-match": "all", "a": "1", "b": "2"], ["a": "1", "b": "2", "c": "3"], true),
            (["x-match": "all", "a": "1", "b": "2"], ["a": "1"], false),
            (["a": "1"], ["a": "1"], true), (["x-match": "any", "a": "1", "b": "2"], ["b": "2"], true),
            (["x-match": "any", "a": "1"], ["a": "2"], false), (["x-match": "all", "x-a": "1"], [:], true),
            (["x-match": "all-with-x", "x-a": "1"], [:], false),
            (["x-match": "any-with-x", "x-a": "1"], ["x-a": "1"], true),
            (["x-match": "all", "a": .void], ["a": 7], true), (["x-match": "all", "a": .void], [:], false),
        ] as [(FieldTable, FieldTable, Bool)]
    )
    func matching(_ binding: FieldTable, _ headers: FieldTable, _ matches: Bool) {
        #expect(binding.matches(headers) == matches)
    }

    @Test(
        "by default no request queue is answered, whatever names the request for a reply",
        arguments: [
            ("billing.rpcs", false), ("math.rpcs", false), ("test.replies.0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff", true),
            ("amq.rabbitmq.reply-to.g1h.x", true), ("amq.gen-x", true), ("my-replies", true),
        ]
    )
    func replyQueues(_ name: String, _ isAnswered: Bool) async {
        let gate = Gate()
        gate.open()
        let runner = runner(admission: Self.admission(), gate: gate)
        let call = FakeRequest("gated", replyTo: name)
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == (isAnswered ? .result("11") : .rejected(requeue: false)))
        #expect(gate.arrived == (isAnswered ? 1 : 0))
        #expect(counters.current.unanswerable == (isAnswered ? 0 : 1))
    }

    @Test(
        "the settings allow callers' queues only, prefixes, or any",
        arguments: [
            (RPCReplyQueues.callersOnly, "my-replies", false), (.callersOnly, "amq.gen-x", true),
            (.callersOnly, "test.replies.0f1e2d3c-4b5a-4978-8695-a4b3c2d1e0ff", true),
            (.callersOnly, "test.replies.x.rpcs", false), (.callersOnly, "", false),
            (.prefixes(["web."]), "web.1", true), (.prefixes(["web."]), "shop.1", false), (.prefixes([]), "a", false),
            (.any, "math.rpcs", true), (.prefixes([""]), "math.rpcs", false),
        ]
    )
    func settings(_ setting: RPCReplyQueues, _ name: String, _ allows: Bool) {
        #expect(setting.allows(name, names: RPCNames(), own: "math.rpcs") == allows)
    }

    @Test("without a suffix request queues look like any other, so only callers' queues are answered")
    func noSuffix() {
        let names = RPCNames(requestQueueSuffix: "")
        #expect(!RPCReplyQueues.notRequestQueues.allows("billing", names: names, own: "math"))
        #expect(RPCReplyQueues.notRequestQueues.allows("amq.gen-x", names: names, own: "math"))
    }

    @Test("a body that is larger than a reply may be is refused, with an error")
    func large() async {
        let runner = runner(admission: Self.admission())
        let call = FakeRequest("next", String(repeating: "1", count: 101))
        runner.accept(call, from: ObjectIdentifier(channel))
        #expect(await call.ending() == .failure(.undecodableRequest))
    }

    @Test("of a flood of bad requests ten lines are logged in ten seconds, and how many were left out")
    func floods() {
        var budget = LogBudget()
        let now = ContinuousClock.now
        let written = (0..<1000).compactMap { _ in budget.spend(at: now) }
        #expect(written == Array(repeating: 0, count: LogBudget.limit))
        #expect(budget.spend(at: now + LogBudget.period) == 990)
        #expect(budget.spend(at: now + LogBudget.period) == 0)
    }

    @Test("a flood of any kind of bad request is counted, and does not fill the log")
    func bounded() async {
        let lines = CountedLines()
        let begin = ContinuousClock.now
        let runner = runner(
            admission: Self.admission([Self.math]),
            logger: Logger(label: "test") { _ in lines }
        )
        for n in 0..<100 {
            for call in [
                FakeRequest("next", exchange: "rpc"), FakeRequest("next", replyTo: "billing.rpcs"),
                FakeRequest("crash", id: "\(n)"), FakeRequest("what", replyTo: nil),
                FakeRequest("next", "{", replyTo: nil),
            ] {
                runner.accept(call, from: ObjectIdentifier(channel))
                _ = await call.ending()
            }
        }
        #expect(counters.current.misdirected == 100)
        #expect(counters.current.unanswerable == 100)
        #expect(counters.current.failed == 300)
        // A budget is for a period, and each kind of line has its own.
        let periods = Int((ContinuousClock.now - begin) / LogBudget.period) + 1
        #expect(lines.count > 0 && lines.count <= 8 * LogBudget.limit * periods, "\(lines.count) in \(periods) periods")
    }
}
