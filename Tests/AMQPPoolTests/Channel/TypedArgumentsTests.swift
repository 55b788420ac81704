import BrokerSupport
import LocalBroker
import NIOCore
import Testing

@testable import AMQPPool

@Suite("Typed arguments")
struct TypedArgumentsTests {
    private static func made(_ type: QueueArguments.QueueType?, _ set: (inout QueueArguments) -> Void) -> QueueArguments
    {
        var arguments = QueueArguments(type: type)
        set(&arguments)
        return arguments
    }

    private static let accepted: [(QueueArguments, [String: BrokerValue])] = [
        (QueueArguments(), [:]),
        (
            made(.classic) {
                $0.expires = .seconds(60)
                $0.messageTTL = .microseconds(1_500)
                $0.deadLetterExchange = ""
                $0.deadLetterRoutingKey = "failed"
                $0.maximumLength = 10
                $0.maximumBytes = 1 << 33
                $0.overflow = .rejectPublishDeadLetter
                $0.maximumPriority = 9
                $0.singleActiveConsumer = true
                $0.others = ["x-queue-mode": "lazy"]
            },
            [
                "x-queue-type": .string("classic"), "x-expires": .integer(60_000), "x-message-ttl": .integer(2),
                "x-dead-letter-exchange": .string(""), "x-dead-letter-routing-key": .string("failed"),
                "x-max-length": .integer(10), "x-max-length-bytes": .integer(1 << 33),
                "x-overflow": .string("reject-publish-dlx"), "x-max-priority": .integer(9),
                "x-single-active-consumer": .bool(true),
                "x-queue-mode": .string("lazy"),
            ]
        ),
        (
            made(.quorum) {
                $0.expires = .milliseconds(4_294_967_295)
                $0.messageTTL = .zero
                $0.deadLetterExchange = "dead"
                $0.deadLetterStrategy = .atLeastOnce
                $0.overflow = .rejectPublish
                $0.maximumLength = 0
                $0.singleActiveConsumer = true
                $0.deliveryLimit = 3
                $0.initialGroupSize = 1
                $0.leaderLocator = .balanced
            },
            [
                "x-queue-type": .string("quorum"), "x-expires": .integer(4_294_967_295), "x-message-ttl": .integer(0),
                "x-dead-letter-exchange": .string("dead"), "x-dead-letter-strategy": .string("at-least-once"),
                "x-overflow": .string("reject-publish"), "x-max-length": .integer(0),
                "x-single-active-consumer": .bool(true), "x-delivery-limit": .integer(3),
                "x-quorum-initial-group-size": .integer(1), "x-queue-leader-locator": .string("balanced"),
            ]
        ),
        (
            made(.stream) {
                $0.maximumBytes = 1_000_000
                $0.maximumAge = .milliseconds(1_500)
                $0.segmentBytes = 500_000
                $0.leaderLocator = .balanced
            },
            [
                "x-queue-type": .string("stream"), "x-max-length-bytes": .integer(1_000_000),
                "x-max-age": .string("2s"),
                "x-stream-max-segment-size-bytes": .integer(500_000), "x-queue-leader-locator": .string("balanced"),
            ]
        ),
    ]

    @Test("A queue is declared with what its arguments say, as the broker sees it", arguments: accepted.indices)
    func declared(_ index: Int) async throws {
        let (arguments, expected) = Self.accepted[index]
        try await withChannel { channel, broker, virtualHost in
            try await channel.declareQueue("q", arguments: arguments)
            let queue = try #require(try await broker.queue("q", virtualHost: virtualHost))
            var expected = expected
            // RabbitMQ 4.0 and later report a queue that was declared without a type as a classic one.
            if await broker.version >= BrokerVersion(4, 0), expected["x-queue-type"] == nil {
                expected["x-queue-type"] = .string("classic")
            }
            #expect(queue.arguments == expected)
            #expect(queue.durable)
            // The same again is the same queue.
            try await channel.declareQueue("q", arguments: arguments)
        }
    }

    private static let refused: [(QueueArguments, String)] = [
        (made(nil) { $0.expires = .zero }, "x-expires takes 1 to"),
        (made(nil) { $0.expires = .milliseconds(4_294_967_296) }, "x-expires takes 1 to"),
        (made(nil) { $0.expires = .seconds(Int64.max) }, "x-expires takes 1 to"),
        (made(nil) { $0.messageTTL = .milliseconds(-1) }, "x-message-ttl takes 0 to"),
        (made(nil) { $0.maximumLength = -1 }, "x-max-length must be at least 0"),
        (made(nil) { $0.maximumBytes = .min }, "x-max-length-bytes must be"),
        (made(nil) { $0.deadLetterRoutingKey = "k" }, "needs x-dead-letter-exchange"),
        (made(nil) { $0.deliveryLimit = 1 }, "x-delivery-limit is for quorum"),
        (made(.quorum) { $0.deliveryLimit = -2 }, "x-delivery-limit must be"),
        (made(.quorum) { $0.maximumPriority = 1 }, "x-max-priority is for classic"),
        (made(.quorum) { $0.overflow = .rejectPublishDeadLetter }, "reject-publish-dlx is for classic"),
        (made(.quorum) { $0.deadLetterStrategy = .atLeastOnce }, "needs x-overflow reject-publish"),
        (made(.quorum) { $0.maximumAge = .seconds(1) }, "x-max-age is for streams"),
        (made(.stream) { $0.maximumAge = .zero }, "x-max-age must be"),
        (made(.stream) { $0.messageTTL = .seconds(1) }, "a stream has no x-message-ttl"),
        (made(.stream) { $0.segmentBytes = 0 }, "x-stream-max-segment-size-bytes must be"),
        (
            made(.quorum) { $0.others = ["x-queue-type": "classic"] },
            "x-queue-type is given twice"
        ),
    ]

    @Test("What the broker would refuse or not do is refused before it is sent", arguments: refused.indices)
    func refusedArguments(_ index: Int) throws {
        let (arguments, text) = Self.refused[index]
        let error = #expect(throws: AMQPError.self) { _ = try arguments.fieldTable() }
        #expect("\(try #require(error))".contains(text))
    }

    @Test("No delivery limit at all can be asked for")
    func noDeliveryLimit() throws {
        var arguments = QueueArguments(type: .quorum)
        arguments.deliveryLimit = -1
        #expect(try arguments.fieldTable()["x-delivery-limit"] == .int64(-1))
    }

    @Test("A quorum queue that is not durable is refused here, and the channel goes on")
    func transientQuorumQueue() async throws {
        try await withChannel { channel, _, _ in
            let error = await failure { () async throws(AMQPError) in
                try await channel.declareQueue("q", durable: false, arguments: QueueArguments(type: .quorum))
            }
            guard case .invalidArgument = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await channel.declareQueue("q", arguments: QueueArguments(type: .quorum))
        }
    }

    @Test("A dead letter exchange, a limit and an alternate exchange do what they say")
    func behaviour() async throws {
        try await withChannel { channel, broker, virtualHost in
            try await channel.selectConfirms()
            try await channel.declareQueue("dead", arguments: QueueArguments())
            try await channel.declareQueue("lost", arguments: QueueArguments())
            try await channel.declareExchange("rest", type: .fanout, arguments: ExchangeArguments())
            try await channel.declareExchange("in", arguments: ExchangeArguments(alternateExchange: "rest"))
            let exchanges = try await broker.exchanges(virtualHost: virtualHost)
            let made = try #require(exchanges.first { $0.name == "in" })
            #expect(made.arguments == ["alternate-exchange": .string("rest")])
            #expect(made.durable)
            try await channel.bindQueue("lost", to: "rest")
            var arguments = QueueArguments()
            arguments.deadLetterExchange = ""
            arguments.deadLetterRoutingKey = "dead"
            arguments.maximumLength = 1
            try await channel.declareQueue("short", arguments: arguments)
            try await channel.bindQueue("short", to: "in", routingKey: "k")
            for routingKey in ["k", "k", "elsewhere"] {
                try await channel.publish(ByteBuffer(), exchange: "in", routingKey: routingKey, mandatory: true)
            }
            for queue in ["short", "dead", "lost"] {
                try await eventually("\(queue) has one message") {
                    try await broker.queue(queue, virtualHost: virtualHost)?.ready == 1
                }
            }
        }
    }

    private static let headers: [(HeadersMatch, matches: [FieldTable], others: [FieldTable])] = [
        (
            .all(["a": 1, "b": .void]), [["a": 1, "b": "x"], ["a": 1, "b": 2, "c": 3]],
            [["a": 1], ["a": 2, "b": 1], [:]]
        ),
        (.any(["a": 1, "b": "x"]), [["a": 1], ["b": "x", "a": 2]], [["a": 2], ["c": 1], [:]]),
        (.all(["a": 1, "x-b": 2]), [["a": 1], ["a": 1, "x-b": 3]], [["x-b": 2]]),
        (.allWithX(["a": 1, "x-b": 2]), [["a": 1, "x-b": 2]], [["a": 1], ["x-b": 2]]),
        (.anyWithX(["x-b": 2]), [["x-b": 2]], [["x-b": 3], [:]]),
    ]

    @Test("Headers match as the mode says", arguments: headers.indices)
    func headersMatch(_ index: Int) async throws {
        let (match, matching, others) = Self.headers[index]
        try await withChannel { channel, broker, virtualHost in
            try await channel.selectConfirms()
            try await channel.declareExchange("e", type: .headers, arguments: ExchangeArguments())
            try await channel.declareQueue("q", arguments: QueueArguments())
            try await channel.bindQueue("q", to: "e", matching: match)
            let bindings = try await broker.bindings(virtualHost: virtualHost)
            let made = try #require(bindings.first { $0.source == "e" })
            let mode =
                switch match {
                case .all: "all"
                case .any: "any"
                case .allWithX: "all-with-x"
                case .anyWithX: "any-with-x"
                }
            #expect(made.arguments["x-match"] == .string(mode))
            for headers in matching + others {
                let properties = MessageProperties(headers: headers)
                let error = await failure { () async throws(AMQPError) in
                    try await channel.publish(
                        ByteBuffer(),
                        properties: properties,
                        exchange: "e",
                        routingKey: "",
                        mandatory: true
                    )
                }
                if matching.contains(headers) {
                    #expect(error == nil, "\(headers)")
                } else if case .returned = error {
                } else {
                    Issue.record("\(headers): \(String(describing: error))")
                }
            }
            try await channel.unbindQueue("q", from: "e", matching: match)
            #expect(try await broker.bindings(virtualHost: virtualHost).allSatisfy { $0.source != "e" })
        }
    }

    @Test(
        "A match that looks at no header would match everything, and is refused",
        arguments: [
            .all([:]), .any(["x-a": 1]), .all(["x-a": 1, "x-b": 2]), .allWithX([:]), .all(["x-match": "any", "a": 1]),
        ] as [HeadersMatch]
    )
    func matchesEverything(_ match: HeadersMatch) {
        #expect(throws: AMQPError.self) { _ = try match.fieldTable() }
    }
}

/// Runs the body with a channel in a virtual host of its own.
private func withChannel(
    _ body: @escaping @Sendable (AMQPChannel, LocalBroker, String) async throws -> Void
) async throws {
    try await TestBroker.withVirtualHost { broker, url, virtualHost in
        let connection = try await AMQPConnection.open(try Endpoint(url: url))
        do {
            try await body(try await connection.openChannel(), broker, virtualHost)
        } catch {
            await connection.close()
            throw error
        }
        await connection.close()
    }
}
