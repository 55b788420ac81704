//! A pool, its endpoints, and its errors while it cannot connect.

import AMQPPool
import NIOCore
import Supervision

// snippet.minimal
let pool = AMQPPool(endpoints: ["amqp://guest:guest@127.0.0.1:5672"])
try await pool.start()
try await pool.waitUntilReady(timeout: .seconds(30))
// snippet.end

// snippet.configuration
var configuration = PoolConfiguration(endpoints: [
    "amqp://shop@rabbit-1.internal/orders",
    "amqp://shop@rabbit-2.internal/orders",
    "amqp://shop@rabbit-3.internal/orders",
])
configuration.shufflesEndpoints = true
configuration.connection.name = "checkout"
configuration.connection.credentials = CredentialsProvider { endpoint in
    Credentials(username: "shop", password: try await readSecret("rabbitmq/\(endpoint.host)"))
}
let cluster = AMQPPool("orders", configuration: configuration)
// snippet.end

// snippet.why
do throws(AMQPError) {
    try await cluster.waitUntilReady(timeout: .seconds(10))
} catch {
    if case .notConnected(let failures) = error.cause {
        for failure in failures { print("\(failure.endpoint), tried \(failure.attempts) times: \(failure.error)") }
    }
}
// snippet.end

// snippet.tree
let app = Supervisor("app", strategy: .restForOne) {
    pool.supervisor
    Child("importer") { _ in Importer(pool: pool) }
}
// snippet.end

// snippet.states
let watching = Task {
    for await state in pool.states { print("the pool is \(state)") }
}
// snippet.end

// snippet.hide
watching.cancel()
await pool.stop()

actor Importer {
    init(pool: AMQPPool) {}
}

@Sendable
func readSecret(_ path: String) async throws -> String { "secret" }
// snippet.show
