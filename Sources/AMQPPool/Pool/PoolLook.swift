internal import ConcurrencyPrimitives

/// A pool's connections as they are now.
package struct PoolLook: Sendable {
    package var state: PoolState
    package var connections: [ConnectionLook]
    /// What could not be connected to, and why, without credentials.
    package var failures: [String]
    /// How many wait for a channel or a connection.
    package var waiting: Int
}

extension ChannelRegistry {
    /// - Parameter timeout: How long to wait for the event loops; what does not answer in time is said to do so.
    package nonisolated func look(within timeout: Duration = .milliseconds(300)) async -> PoolLook {
        let connections = openConnections
        let looks = await withTaskGroup(of: (Int, ConnectionLook).self) { group in
            for (index, connection) in connections.enumerated() {
                group.addTask { (index, await connection.look(within: timeout)) }
            }
            return await group.reduce(into: []) { $0.append($1) }
        }
        return PoolLook(
            state: poolState,
            connections: looks.sorted { $0.0 < $1.0 }.map(\.1),
            failures: failures.map { "\($0)" },
            waiting: waiting
        )
    }
}

extension ChannelRegistry {
    /// What the broker says of a queue, asked on a channel of its own; `nil` when there is no such queue, or no answer.
    package nonisolated func status(ofQueue queue: String) async -> QueueStatus? {
        guard let connection = openConnections.first(where: { !$0.isEnding }) else { return nil }
        return try? await connection.withTemporaryChannel { channel throws(AMQPError) in
            try await channel.declareQueue(queue, passive: true)
        }
    }
}

extension AMQPPool {
    /// Its channels and connections; `nil` while it does not run.
    package var channelRegistry: ChannelRegistry? { registry.value }
}
