import AMQPPool
import BrokerSupport
import LocalBroker
import Logging
import NIOCore
import QueueWorkers
import RPCReceiver
import Supervision
import Testing

/// Lines of a log end with a line break, and terminals take commands: what publishers write must be neither.
@Suite("What publishers write into ids, keys and bodies")
struct ForgedLinesTests {
    private struct Failed: Error, CustomStringConvertible {
        var description: String { "cannot handle \(ForgedLinesTests.forged)" }
    }

    private static let forged = "1\r\n2026-11-29 critical: it burns \u{1B}[2J\u{2028}x"

    @Test("makes no line of its own in the log of a receiver, a consumer and a worker, and reaches no terminal")
    func forged() async throws {
        let forged = Self.forged
        try await TestBroker.withVirtualHost { _, url, _ in
            let log = StoryLog()
            let pool = AMQPPool(endpoints: [try Endpoint(url: url)], logger: log.logger) { channel in
                try await channel.declareExchange("all", type: .fanout)
                try await channel.declareQueue("consumed")
                try await channel.bindQueue("consumed", to: "all")
            }
            var consumer = ConsumerConfiguration()
            consumer.onFailure = .reject
            let procedures = RPCHandlers {
                RPCHandler("fail") { (_: String, context: RPCContext) -> String in
                    context.logger.error("of the handler")
                    throw Failed()
                }
            }
            let receiver = RPCReceiver(service: "math", on: pool, logger: log.logger, procedures: procedures)
            let app = Supervisor("app", logger: log.logger) {
                pool.supervisor
                receiver.supervisor
                Child.consumer("consumer", of: "consumed", on: pool, configuration: consumer) { _ in throw Failed() }
                Child.worker("worker", of: String.self, from: "worked", on: pool, retry: .after([], then: .park)) {
                    _,
                    context in
                    context.logger.error("of the worker")
                    throw Failed()
                }
            }
            try await app.start()
            for text in ["receiver serving", "consumer consuming", "worker consuming"] { try await log.wait(for: text) }
            // The worker declares its queue itself.
            try await pool.withDedicatedChannel { try await $0.bindQueue("worked", to: "all") }
            var properties = MessageProperties(contentType: "application/json", messageID: forged)
            try await pool.publish(
                ByteBuffer(string: "\"x\""),
                properties: properties,
                exchange: "all",
                // A line break in it is refused, by the broker too.
                routingKey: "it burns \u{1B}[2J",
                mandatory: true
            )
            properties.headers = ["procedure": "fail"]
            try await pool.publish(
                ByteBuffer(string: "\"x\""),
                properties: properties,
                routingKey: "math.rpcs",
                mandatory: true
            )
            for text in ["of the handler", "of the worker", "a handler failed", "a message could not be handled"] {
                try await log.wait(for: text)
            }
            try await log.wait(for: "worker=app/worker", count: 1)
            await app.stop()
            let lines = log.all.filter { $0.contains("it burns") }
            #expect(lines.count >= 4, "\(log.all)")
            let forgeries = log.all.filter { $0.unicodeScalars.contains { $0.value < 0x20 || $0.value == 0x2028 } }
            #expect(forgeries.isEmpty, "\(forgeries)")
        }
    }
}
