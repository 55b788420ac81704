import BrokerSupport
import LocalBroker
import NIOCore
import Supervision
import Synchronization
import Testing

@testable import AMQPPool

@Suite("Messages that the broker closes the channel for")
struct RefusedPublishTests: ChannelDecisions {
    private static let missing = CloseReason(
        replyCode: 404,
        replyText: "NOT_FOUND - no exchange 'nope' in vhost '/'",
        classID: 60,
        methodID: 40
    )

    private func publish(_ name: String, exchange: String, _ outcomes: Recorder<String>, tells: Bool = true) -> Publish
    {
        var publish = Publish(
            exchange: exchange,
            routingKey: name,
            body: ByteBuffer(),
            outcome: { outcomes.append("\(name) \($0)") }
        )
        publish.tellsRefusals = tells
        return publish
    }

    @Test("The only one that can be meant is refused; those before it are in doubt, those behind it were not looked at")
    func onlyCandidate() throws {
        var machine = opened(confirming: true)
        let outcomes = Recorder<String>()
        machine.published(publish("a", exchange: "good", outcomes))
        machine.published(publish("b", exchange: "nope", outcomes))
        machine.published(publish("c", exchange: "good", outcomes))
        machine.published(publish("d", exchange: "good", outcomes, tells: false))
        machine.execute { $0.receive(.channelClose(Self.missing), &$1) }
        let told = outcomes.values
        #expect(
            told.map { String($0.prefix { $0 != "(" }) } == ["a unknown", "b refused", "c notWritten", "d unknown"]
        )
        #expect(!told[0].contains("nope") && !told[2].contains("nope"))
        #expect(told[1].contains("404") && told[1].contains("no exchange 'nope'"))
        #expect(machine.isClosedForPublish)
    }

    @Test(
        "Of several that can be meant the last is refused, and the others are in doubt, since the exchange may have been deleted between them"
    )
    func severalCandidates() {
        var machine = opened(confirming: true)
        let outcomes = Recorder<String>()
        for name in ["a", "b", "c"] { machine.published(publish(name, exchange: "nope", outcomes)) }
        machine.execute { $0.receive(.channelClose(Self.missing), &$1) }
        #expect(outcomes.values.map { String($0.prefix { $0 != "(" }) } == ["a unknown", "b unknown", "c refused"])
        // A text that tells nothing.
        machine = opened(confirming: true)
        let others = Recorder<String>()
        for name in ["a", "b"] { machine.published(publish(name, exchange: "nope", others)) }
        let reason = CloseReason(replyCode: 406, replyText: "PRECONDITION_FAILED - what", classID: 60, methodID: 40)
        machine.execute { $0.receive(.channelClose(reason), &$1) }
        #expect(others.values.map { String($0.prefix { $0 != "(" }) } == ["a unknown", "b unknown"])
    }

    @Test("The broker's texts tell what the refused messages have in common")
    func grounds() {
        let texts: [(String, PublishRefusal.Ground)] = [
            ("NOT_FOUND - no exchange 'it's' in vhost '/'", .exchange("it's")),
            ("ACCESS_REFUSED - access to exchange 'e' in vhost '/' refused for user 'u'", .exchange("e")),
            ("ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'u'", .exchange("")),
            ("ACCESS_REFUSED - cannot publish to internal exchange 'e' in vhost '/'", .exchange("e")),
            (
                "ACCESS_REFUSED - access to topic 'a.b' in exchange 'e' in vhost '/' refused for user 'u'",
                .topic(exchange: "e", routingKey: "a.b")
            ),
            ("PRECONDITION_FAILED - user_id property set to 'x' but authenticated user was 'guest'", .user("x")),
            ("PRECONDITION_FAILED - message size 2 larger than max size 1", .size(limit: 1)),
            ("PRECONDITION_FAILED - message size 20 is larger than configured max size 9", .size(limit: 9)),
            ("PRECONDITION_FAILED - message size of 2 words", .unknown), ("", .unknown),
        ]
        for (text, ground) in texts { #expect(PublishRefusal(code: 404, text: text).ground == ground) }
    }

    @Test("What was refused is tried alone, one at a time, after pauses that grow to a second, until it is accepted")
    func decisions() throws {
        var refused = RefusedPublishes()
        var now = ContinuousClock.now
        func admit() -> RefusedPublishes.Admission {
            refused.admit(exchange: "e", routingKey: "k", userID: nil, size: 1, at: now)
        }
        // The first message to an exchange is tried alone too.
        guard case .alone(.exchange("e"), _, nil) = admit(), case .wait = admit() else {
            Issue.record("not tried alone")
            return
        }
        refused.tried(.exchange("e"), .accepted, at: now)
        guard case .shared = admit() else {
            Issue.record("accepted, and not shared")
            return
        }
        let error = AMQPError.refused(code: 404, text: "", exchange: "e", routingKey: "k")
        refused.refused(.exchange("e"), error, at: now)
        var pauses: [Duration] = []
        for _ in 0..<8 {
            guard case .alone(let ground, let notBefore, .refused?) = admit(), case .wait = admit() else {
                Issue.record("not tried alone")
                return
            }
            pauses.append(now.duration(to: notBefore))
            now = notBefore
            refused.tried(ground, .refused(error), at: now)
        }
        #expect(pauses == [20, 40, 80, 160, 320, 640, 1000, 1000].map { .milliseconds($0) })
        // Others are not kept.
        guard case .shared = refused.admit(exchange: "", routingKey: "k", userID: "u", size: 1, at: now) else {
            Issue.record("another is kept")
            return
        }
        for number in 0..<5000 {
            refused.refused(.exchange("\(number)"), error, at: now)
            now += .milliseconds(1)
        }
        #expect(refused.count <= RefusedPublishes.maximumEntries)
    }

    @Test(
        "Where one is refused for its size, it is the one that is refused, and what is larger is tried alone from then on"
    )
    func size() throws {
        let text = "PRECONDITION_FAILED - message size 20 is larger than configured max size 9"
        var machine = opened(confirming: true)
        let outcomes = Recorder<String>()
        for (name, size) in [("a", 9), ("b", 20), ("c", 9)] {
            var publish = publish(name, exchange: "", outcomes)
            publish.body = ByteBuffer(repeating: 0, count: size)
            machine.published(publish)
        }
        let reason = CloseReason(replyCode: 406, replyText: text, classID: 60, methodID: 40)
        machine.execute { $0.receive(.channelClose(reason), &$1) }
        #expect(outcomes.values.map { String($0.prefix { $0 != "(" }) } == ["a unknown", "b refused", "c notWritten"])

        var refused = RefusedPublishes()
        let now = ContinuousClock.now
        let error = AMQPError.refused(code: 406, text: text, exchange: "", routingKey: "q")
        refused.refused(.size(limit: 9), error, at: now)
        guard case .shared = refused.admit(exchange: "", routingKey: "q", userID: nil, size: 9, at: now) else {
            Issue.record("one that is not too large is kept from the others")
            return
        }
        let key = (exchange: "", routingKey: "other")
        for size in [10, 20] {
            let admission = refused.admit(
                exchange: key.exchange,
                routingKey: key.routingKey,
                userID: nil,
                size: size,
                at: now
            )
            switch (size, admission) {
            case (10, .alone(.size(limit: 9), _, .refused?)), (20, .wait(_, .refused?)): break
            default: Issue.record("\(size): \(admission)")
            }
        }
        // The operator has raised the limit.
        refused.tried(.size(limit: 9), .accepted, at: now)
        guard case .shared = refused.admit(exchange: "", routingKey: "q", userID: nil, size: 20, at: now) else {
            Issue.record("kept, though accepted")
            return
        }
    }

    /// Publishes that the broker refuses, and what there must be in the errors of nobody else.
    enum Wrong: String, CaseIterable, Sendable {
        case exchange = "nope"
        case otherExchanges = "nope-"
        case user = "somebody"
        case `internal` = "inside"
        case right = "forbidden"

        func publish(_ number: Int, on pool: AMQPPool) async throws(AMQPError) {
            switch self {
            case .exchange, .internal, .right: try await pool.publish(ByteBuffer(), exchange: rawValue, routingKey: "q")
            case .otherExchanges:
                try await pool.publish(ByteBuffer(), exchange: "\(rawValue)\(number)", routingKey: "q")
            case .user:
                try await pool.publish(ByteBuffer(), properties: MessageProperties(userID: rawValue), routingKey: "q")
            }
        }
    }

    @Test(
        "One task that publishes what the broker refuses, over and over, does not keep sixteen others from it",
        arguments: Wrong.allCases
    )
    func neighbours(_ wrong: Wrong) async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let user = "writer-\(UInt32.random(in: .min ... .max))"
            try await broker.createUser(user, password: "p", virtualHost: virtualHost, write: "^(?!forbidden).*")
            let endpoint = Endpoint(
                host: "127.0.0.1",
                port: broker.port,
                virtualHost: virtualHost,
                username: user,
                password: "p"
            )
            var configuration = PoolConfiguration(endpoints: [endpoint])
            configuration.connection = patient()
            let pool = AMQPPool(configuration: configuration) { channel in
                try await channel.declareQueue("q", arguments: ["x-max-length": 10])
                try await channel.declareExchange("inside", internal: true)
                try await channel.declareExchange("forbidden")
            }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            let isOver = Atomic(false)
            let flag = Flag(isOver)
            let (confirmed, inDoubt) = (Recorder<Int>(), Recorder<String>())
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<16 {
                    group.addTask {
                        while !flag.value.load(ordering: .relaxed) {
                            do throws(AMQPError) {
                                try await pool.publish(ByteBuffer(string: "m"), routingKey: "q", mandatory: true)
                                confirmed.append(1)
                            } catch {
                                inDoubt.append("\(error)")
                            }
                        }
                    }
                }
                for number in 0..<8 {
                    let before = confirmed.values.count
                    let error = await failure { () async throws(AMQPError) in try await wrong.publish(number, on: pool)
                    }
                    guard case .refused = error?.cause else {
                        Issue.record("\(String(describing: error))")
                        continue
                    }
                    #expect("\(String(describing: error))".contains(wrong.rawValue))
                    // Undisturbed they are as many in a millisecond.
                    try await confirmed.wait { $0.count >= before + 32 }
                }
                flag.value.store(true, ordering: .relaxed)
                try await group.waitForAll()
            }
            // Those that were on their way when the first user id, or right, was refused; an exchange is tried alone from the beginning.
            let limit = wrong == .user ? 32 : 0
            #expect(
                inDoubt.values.count <= limit,
                "\(inDoubt.values.count) of \(confirmed.values.count): \(inDoubt.values.first ?? "")"
            )
            #expect(!inDoubt.values.contains { $0.contains(wrong.rawValue) })
            await pool.stop()
        }
    }

    @Test("One task that publishes more than the broker takes, over and over, does not keep sixteen others from it")
    func tooLarge() async throws {
        var options = TestBroker.options
        options.configuration = "max_message_size = 100000"
        try await TestBroker.own(options) { broker in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: broker.url)])
            configuration.connection = patient()
            let pool = AMQPPool(configuration: configuration) { channel in
                try await channel.declareQueue("q", arguments: ["x-max-length": 10])
            }
            try await pool.start()
            try await pool.waitUntilReady(timeout: .seconds(60))
            let isOver = Flag(Atomic(false))
            let (confirmed, failed) = (Recorder<Int>(), Recorder<String>())
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<16 {
                    group.addTask {
                        while !isOver.value.load(ordering: .relaxed) {
                            do throws(AMQPError) {
                                try await pool.publish(ByteBuffer(string: "m"), routingKey: "q", mandatory: true)
                                confirmed.append(1)
                            } catch {
                                failed.append("\(error)")
                            }
                        }
                    }
                }
                for number in 0..<8 {
                    let before = confirmed.values.count
                    let body = ByteBuffer(repeating: 0, count: 100_001 + number)
                    let error = await failure { () async throws(AMQPError) in
                        try await pool.publish(body, routingKey: "q")
                    }
                    guard case .refused(406, _, _, _) = error?.cause else {
                        Issue.record("\(String(describing: error))")
                        continue
                    }
                    try await confirmed.wait { $0.count >= before + 32 }
                }
                isOver.value.store(true, ordering: .relaxed)
                try await group.waitForAll()
            }
            // Those that were on their way when the first was refused.
            #expect(failed.values.count <= 32, "\(failed.values.count) of \(confirmed.values.count)")
            #expect(!failed.values.contains { $0.contains("message size") })
            await pool.stop()
        }
    }

    @Test("The first message to an exchange that onOpen declares waits until it has, and is not refused")
    func waitsForTopology() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connection = patient()
            let pool = AMQPPool(configuration: configuration) { channel in
                for number in 0..<20 { try await channel.declareExchange("before-\(number)") }
                try await channel.declareExchange("declared")
            }
            try await pool.start()
            try await pool.publish(ByteBuffer(), exchange: "declared", routingKey: "k")
            await pool.stop()
        }
    }

    @Test(
        "From 64 tasks each publish to a missing exchange ends with the right error, and when it is declared they go through"
    )
    func manyTasks() async throws {
        try await TestBroker.withVirtualHost { _, url, _ in
            var configuration = PoolConfiguration(endpoints: [try Endpoint(url: url)])
            configuration.connection = patient()
            let pool = AMQPPool(configuration: configuration)
            try await pool.start()
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<64 {
                    group.addTask {
                        let error = await failure { () async throws(AMQPError) in
                            try await pool.publish(ByteBuffer(), exchange: "late", routingKey: "\(number)")
                        }
                        guard case .refused(404, _, "late", "\(number)") = error?.cause else {
                            Issue.record("\(String(describing: error))")
                            return
                        }
                        #expect(error?.isRetrySafe == true)
                    }
                }
                try await group.waitForAll()
            }
            try await pool.withChannel { try await $0.declareExchange("late") }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<64 {
                    group.addTask { try await pool.publish(ByteBuffer(), exchange: "late", routingKey: "k") }
                }
                try await group.waitForAll()
            }
            await pool.stop()
        }
    }
}

private final class Flag: Sendable {
    let value: Atomic<Bool>
    init(_ value: consuming Atomic<Bool>) { self.value = value }
}
