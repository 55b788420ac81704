import NIOCore
import Testing

@testable import AMQPPool

@Suite("Names that the broker would change")
struct NameTests {
    @Test(
        "One with a line break is refused at once, by name, wherever it is given, and the channel goes on",
        arguments: ["a\nb", "a\r", "\r\n"]
    )
    func lineBreak(_ name: String) async throws {
        try await withConnection { connection in
            let channel = try await connection.openChannel()
            try await channel.declareQueue("q", exclusive: true)
            let operations: [(String, (AMQPChannel) async throws -> Void)] = [
                ("queue", { try await $0.declareQueue(name) }),
                ("queue", { try await $0.declareQueue(name, passive: true) }),
                ("queue", { try await $0.deleteQueue(name) }), ("queue", { try await $0.purgeQueue(name) }),
                ("queue", { _ = try await $0.get(queue: name) }),
                ("queue", { try await $0.consume(queue: name, onDelivery: { _ in }) }),
                ("queue", { try await $0.bindQueue(name, to: "amq.topic") }),
                ("queue", { try await $0.unbindQueue(name, from: "amq.topic") }),
                ("exchange", { try await $0.declareExchange(name) }),
                ("exchange", { try await $0.deleteExchange(name) }),
                ("exchange type", { try await $0.declareExchange("e", type: .custom(name)) }),
                ("exchange", { try await $0.bindQueue("q", to: name) }),
                ("exchange", { try await $0.bindExchange(name, to: "amq.topic") }),
                ("exchange", { try await $0.bindExchange("amq.topic", to: name) }),
                ("exchange", { try await $0.unbindExchange("amq.topic", from: name) }),
                ("exchange", { try await $0.publish(ByteBuffer(), exchange: name, routingKey: "q") }),
                ("routing key", { try await $0.publish(ByteBuffer(), routingKey: name) }),
                ("routing key", { try await $0.bindQueue("q", to: "amq.topic", routingKey: name) }),
                ("routing key", { try await $0.bindExchange("amq.direct", to: "amq.topic", routingKey: name) }),
                ("consumer tag", { try await $0.consume(queue: "q", tag: name, onDelivery: { _ in }) }),
                ("consumer tag", { try await $0.cancel(name) }),
                ("consumer tag", { try await $0.consume(queue: "q", tag: "", onDelivery: { _ in }) }),
            ]
            for (index, (kind, operation)) in operations.enumerated() {
                do {
                    try await operation(channel)
                    Issue.record("accepted: \(index)")
                } catch let error as AMQPError {
                    guard case .invalidArgument(let text) = error.cause else {
                        Issue.record("\(index): \(error)")
                        continue
                    }
                    #expect(text.hasPrefix("the \(kind)"), "\(text)")
                    #expect(!text.contains("\n") && !text.contains("\r"))
                }
            }
            #expect(try await channel.declareQueue("q", exclusive: true).name == "q")
        }
        #expect(Endpoint(host: "h", virtualHost: name).error == .containsLineBreak(.virtualHost))
        #expect(throws: EndpointError.containsLineBreak(.virtualHost)) { try Endpoint(url: "amqp://h/a%0D%0Ab") }
    }
}
