import AMQPPool
import BrokerSupport
import LocalBroker
import NIOCore
import RPCCaller
import RPCReceiver
import Synchronization
import Testing

@Suite("A receiver whose user may not write to the default exchange", .timeLimit(.minutes(3)))
struct ReplyPermissionTests {
    @Test("runs a call no more often than it has channels, gives it up, and goes on with casts")
    func gaveUp() async throws {
        try await withServices { services in
            let (broker, virtualHost) = (services.broker, services.virtualHost)
            let user = "mute-\(virtualHost)"
            try await broker.createUser(user, password: "secret", virtualHost: virtualHost, write: "^mute|^rpc$")
            let runs = Mutex<[Int]>([])
            let url = "amqp://\(user):secret@127.0.0.1:\(broker.port)/\(virtualHost)"
            let receiver = RPCReceiver(service: "mute", endpoints: [try Endpoint(url: url)], logger: quiet) {
                RPCHandler("note") { (n: Int, _) in
                    runs.withLock { $0.append(n) }
                    return n
                }
            }
            try await receiver.start()
            try await receiver.waitUntilReady(timeout: .seconds(90))
            // A client that waits for ever, as far as the broker knows: nothing of its request ever expires.
            let connection = try await AMQPConnection.open(try Endpoint(url: services.url), logger: quiet)
            let channel = try await connection.openChannel()
            let replies = try await channel.declareQueue("mute.replies", durable: true)
            try await channel.publish(
                .init(string: "1"),
                properties: MessageProperties(
                    headers: ["procedure": "note"],
                    correlationID: "1",
                    replyTo: replies.name
                ),
                routingKey: "mute.rpcs",
                mandatory: true
            )
            try await eventually("it is given up") { receiver.counts.unanswerable == 1 }
            try await eventually("it is in no queue any more") {
                try await broker.queue("mute.rpcs", virtualHost: virtualHost)?.messages == 0
            }
            try await services.rpc.cast("mute", "note", 2)
            try await eventually("the cast runs") { runs.withLock { $0.contains(2) } }
            // Its other channel may get the request again before the first one is known to be closed, and why.
            #expect(runs.withLock { runs in runs.filter { $0 == 1 }.count } <= 2)
            #expect(receiver.counts.unanswerable == 1)
            await connection.close()
            await receiver.stop()
        }
    }
}
