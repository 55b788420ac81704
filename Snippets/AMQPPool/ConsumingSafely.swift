//! A supervised consumer, a consumer of typed messages, and a sequence of deliveries.

import AMQPPool
import Foundation
import NIOCore
import NIOFoundationCompat
import Supervision

struct Order: Codable, Sendable {
    var number: Int
}

// snippet.consumer
let pool = AMQPPool(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])

var configuration = ConsumerConfiguration()
configuration.concurrency = 20
configuration.onFailure = .deadLetterAfter(5)

let shop = Supervisor("shop") { [configuration] in
    pool.supervisor
    Child.consumer("orders", of: "orders", on: pool, configuration: configuration) { channel in
        var arguments = QueueArguments(type: .quorum)
        arguments.deadLetterExchange = "failed"
        try await channel.declareQueue("orders", arguments: arguments)
    } handler: { delivery in
        try await handle(delivery)
    }
}
try await shop.run()
// snippet.end

// snippet.typed
let invoices = Child.consumer("invoices", of: "invoices", on: pool) { delivery in
    try JSONDecoder().decode(Order.self, from: Data(buffer: delivery.body))
} handler: { order, delivery in
    try await send(order, isRepeated: delivery.redelivered)
}
// snippet.end

// snippet.sequence
try await pool.withDeliveries(of: "orders", prefetch: 20) { deliveries in
    for await message in deliveries {
        try await handle(message.delivery)
        message.acknowledge()
    }
}
// snippet.end

// snippet.missing
configuration.missingQueue = .fail(after: .seconds(60))
configuration.arguments.priority = 10
configuration.exclusive = true
// snippet.end

// snippet.hide
_ = invoices
@Sendable
func handle(_ delivery: Delivery) async throws {}
@Sendable
func send(_ order: Order, isRepeated: Bool) async throws {}
// snippet.show
