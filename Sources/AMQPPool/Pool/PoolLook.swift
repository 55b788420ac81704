internal import ConcurrencyPrimitives

/// A snapshot of a pool's connections.
package struct PoolLook: Sendable {
    package var state: PoolState
    package var connections: [ConnectionLook]
    /// The endpoints that could not be connected to, and why, without credentials.
    package var failures: [String]
    /// The number of tasks that wait for a channel or a connection.
    package var waiting: Int
}

extension ChannelRegistry {
    /// - Parameter timeout: How long to wait for the event loops; a connection that does not answer in time is marked as not answering.
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
    /// The broker's status of a queue, requested on a separate channel; `nil` when the queue does not exist, or there is no answer.
    package nonisolated func status(ofQueue queue: String) async -> QueueStatus? {
        guard let connection = openConnections.first(where: { !$0.isEnding }) else { return nil }
        return try? await connection.withTemporaryChannel { channel throws(AMQPError) in
            try await channel.declareQueue(queue, passive: true)
        }
    }
}

extension AMQPPool {
    /// Its channels and connections; `nil` while it is not running.
    package var channelRegistry: ChannelRegistry? { registry.value }
}
