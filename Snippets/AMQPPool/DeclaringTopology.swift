//! Exchanges, queues and bindings that are declared whenever a channel is opened.

import AMQPPool

// snippet.onOpen
let pool = AMQPPool(endpoints: ["amqp://guest:guest@127.0.0.1:5672"]) { channel in
    try await channel.declareExchange(
        "events",
        type: .topic,
        arguments: ExchangeArguments(alternateExchange: "unrouted")
    )
    var arguments = QueueArguments(type: .quorum)
    arguments.deadLetterExchange = "failed"
    arguments.deliveryLimit = 5
    arguments.maximumLength = 100_000
    arguments.overflow = .rejectPublish
    try await channel.declareQueue("audit", arguments: arguments)
    try await channel.bindQueue("audit", to: "events", routingKey: "order.*")
}
// snippet.end

// snippet.headers
func routeReports(_ channel: AMQPChannel) async throws {
    try await channel.declareExchange("documents", type: .headers, durable: true)
    try await channel.bindQueue("pdf", to: "documents", matching: .all(["format": "pdf", "type": "report"]))
}
// snippet.end
