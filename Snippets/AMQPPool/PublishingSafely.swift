//! Messages, their outcomes, and how to handle each.

import AMQPPool
import NIOCore

let pool = AMQPPool(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])

// snippet.publish
try await pool.publish(
    ByteBuffer(string: #"{"order": 42}"#),
    properties: MessageProperties(
        contentType: "application/json",
        headers: ["tenant": "north"],
        deliveryMode: .persistent,
        messageID: "order-42"
    ),
    routingKey: "orders",
    mandatory: true
)
// snippet.end

// snippet.outcomes
func send(_ message: ByteBuffer) async throws {
    do throws(AMQPError) {
        try await pool.publish(message, routingKey: "orders", mandatory: true, timeout: .seconds(5))
    } catch {
        switch error {
        case .returned: print("no queue takes it: \(error)")
        case .nacked: print("the broker refused it, as a full queue does")
        case .unconfirmed(let cause): print("the broker may have it, or not: \(cause)")
        case .notSent(let cause): print("no byte of it was sent: \(cause)")
        default: print(error)
        }
        if error.isRetrySafe { try await putAside(message) }
    }
}
// snippet.end

// snippet.many
func send(_ orders: [ByteBuffer]) async throws {
    let messages = orders.map { OutgoingMessage($0, routingKey: "orders", mandatory: true) }
    let results = await pool.publish(contentsOf: messages, timeout: .seconds(30))
    for (order, result) in zip(orders, results) {
        if case .failure(let error) = result, error.isRetrySafe { try await putAside(order) }
    }
}
// snippet.end

// snippet.dedicated
let exists = try await pool.withDedicatedChannel(timeout: .seconds(5)) { channel in
    do {
        try await channel.declareQueue("orders", passive: true)
        return true
    } catch AMQPError.channelClosedByBroker(code: 404, _) {
        return false
    }
}
// snippet.end

// snippet.hide
print(exists)
func putAside(_ message: ByteBuffer) async throws {}
// snippet.show
