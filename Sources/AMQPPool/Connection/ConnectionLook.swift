internal import ConcurrencyPrimitives

/// A connection as it is now, for those who look at it.
package struct ConnectionLook: Sendable {
    package var name: String?
    /// Without credentials.
    package var endpoint: String
    package var isClosing: Bool
    /// Why the broker accepts no messages at present.
    package var blockedReason: String?
    /// Those in use, dedicated ones included. Empty when the event loop did not answer.
    package var channels: [ChannelLook] = []
    /// Whether the event loop answered.
    package var isAnswering = false
}

/// A channel as it is now.
package struct ChannelLook: Sendable {
    package var number: UInt16
    package var isClosing: Bool
    package var isConfirming: Bool
    package var unconfirmed: Int
    /// Messages and acknowledgements that wait to be written, and the messages' bytes.
    package var outbox: (entries: Int, bytes: Int)
    /// Publishers that wait for room in the outbox.
    package var waitingPublishers: Int
    /// Operations, such as declaring a queue, that wait for the broker's answer.
    package var operations: Int
    package var consumers: Int
    package var prefetch: UInt16?
}

extension AMQPConnection {
    /// Asks the event loop, and waits no longer than this: what is known without it comes in any case.
    package nonisolated func look(within timeout: Duration) async -> ConnectionLook {
        var look = ConnectionLook(
            name: configuration.name,
            endpoint: endpoint.redacted,
            isClosing: isEnding,
            blockedReason: blockedReason
        )
        let answer = OneShot<[ChannelLook]>()
        onEventLoop { connection in
            answer.set(connection.channels.compactMap { $0?.assumeIsolated { $0.look } })
        }
        if let channels = await answer.wait(atMost: timeout) {
            look.channels = channels
            look.isAnswering = true
        }
        return look
    }
}

extension AMQPChannel {
    fileprivate var look: ChannelLook {
        ChannelLook(
            number: number,
            isClosing: isClosing,
            isConfirming: isConfirming,
            unconfirmed: unconfirmed,
            outbox: outbox.size,
            waitingPublishers: waitingPublishes.count,
            operations: pendingOperations,
            consumers: consumerCount,
            prefetch: prefetch
        )
    }
}

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
