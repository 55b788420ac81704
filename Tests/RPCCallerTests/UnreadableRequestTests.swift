import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import Synchronization
import Testing

@Suite("Requests whose ids or headers are odd", .timeLimit(.minutes(2)))
struct UnreadableRequestTests {
    private func reply(
        _ url: String,
        _ properties: MessageProperties,
        body: String = "[1,2]"
    ) async throws -> MessageProperties? {
        let connection = try await AMQPConnection.open(try Endpoint(url: url), logger: quiet)
        let channel = try await connection.openChannel()
        let replies = try await channel.declareQueue("odd.replies", durable: true)
        var properties = properties
        properties.replyTo = replies.name
        let (stream, continuation) = AsyncStream.makeStream(of: MessageProperties.self)
        _ = try await channel.consume(
            queue: replies.name,
            noAck: true,
            onDelivery: { continuation.yield($0.properties) }
        )
        try await channel.publish(.init(string: body), properties: properties, routingKey: "math.rpcs", mandatory: true)
        let reply = await stream.first { _ in true }
        await connection.close()
        return reply
    }

    @Test(
        "an id that is not UTF-8, or has NUL, is echoed as it came",
        arguments: [
            "a\u{10FF00}b", "a\u{10FFFF}\u{10FFFE}", "ü", "a\u{1}",
        ]
    )
    func ids(_ id: String) async throws {
        try await withServices { services in
            let properties = MessageProperties(headers: ["procedure": "add"], correlationID: id, messageID: id)
            let reply = try await reply(services.url, properties)
            #expect(reply?.correlationID == id)
            #expect(reply?.headers["error"] == nil)
        }
    }

    @Test("a header that is not what it should be is answered with an error, and counted")
    func headers() async throws {
        try await withServices { services in
            let odd: [FieldTable] = [["procedure": 7], ["procedure": "add", "timeout-ms": "soon"]]
            for (n, headers) in odd.enumerated() {
                let reply = try await reply(services.url, MessageProperties(headers: headers, correlationID: "1"))
                #expect(reply?.headers["error"] == "undecodable_request")
                #expect(services.receiver.counts.unreadable == n + 1)
            }
        }
    }

    @Test("a body that is larger than the receiver takes is answered with an error, and the next request runs")
    func large() async throws {
        try await withServices(receiver: { $0.pool.connection.maximumMessageSize = 1000 }) { services in
            let properties = MessageProperties(headers: ["procedure": "add"], correlationID: "1")
            let large = try await reply(services.url, properties, body: String(repeating: " ", count: 1001) + "[1]")
            #expect(large?.headers["error"] == "undecodable_request")
            #expect(services.receiver.counts.unreadable == 1)
            #expect(try await services.rpc.call("math", "add", [1, 2], as: Int.self) == 3)
        }
    }
}
