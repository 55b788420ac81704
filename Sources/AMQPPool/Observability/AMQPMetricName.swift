/// The names of the metrics of pools, consumers and workers. A test compares them with `docs/observability.md`.
package enum AMQPMetricName: String, CaseIterable, Sendable {
    case operationDuration = "messaging.client.operation.duration"
    case confirmDuration = "amqp.client.confirm.duration"
    case sent = "messaging.client.sent.messages"
    case returned = "amqp.client.returned.messages"
    case unconfirmed = "amqp.client.publishing"
    case connected = "amqp.client.connected"
    case blocked = "amqp.client.blocked"
    case connections = "amqp.client.connections"
    case channels = "amqp.client.channels"
    case reconnects = "amqp.client.reconnects"
    case connectFailures = "amqp.client.connect.failures"
    case consumed = "messaging.client.consumed.messages"
    case processDuration = "messaging.process.duration"
    case processInFlight = "messaging.process.in_flight"
    case processZombies = "messaging.process.zombies"
    case prefetch = "messaging.consumer.prefetch"
}

/// The dimensions of those metrics.
package enum AMQPMetricDimension: String, CaseIterable, Sendable {
    case system = "messaging.system"
    case operation = "messaging.operation.name"
    case destination = "messaging.destination.name"
    case outcome
    case pool
    case reason
}
