internal import ConcurrencyPrimitives

/// A snapshot of a connection for inspection.
package struct ConnectionLook: Sendable {
    package var name: String?
    /// The endpoint, without credentials.
    package var endpoint: String
    package var isClosing: Bool
    /// Why the broker accepts no messages at present.
    package var blockedReason: String?
    /// The channels in use, including dedicated ones. Empty when the event loop did not answer.
    package var channels: [ChannelLook] = []
    /// Whether the event loop answered.
    package var isAnswering = false
}

/// A snapshot of a channel for inspection.
package struct ChannelLook: Sendable {
    package var number: UInt16
    package var isClosing: Bool
    package var isConfirming: Bool
    package var unconfirmed: Int
    /// The number of messages and acknowledgements that wait to be written, and the bytes of the messages.
    package var outbox: (entries: Int, bytes: Int)
    /// The number of publishers that wait for room in the outbox.
    package var waitingPublishers: Int
    /// The number of operations, such as declarations, that wait for the broker's answer.
    package var operations: Int
    package var consumers: Int
    package var prefetch: UInt16?
}

extension AMQPConnection {
    /// Takes a snapshot on the event loop, waiting at most `timeout`; data that needs no event loop is always included.
    nonisolated func look(within timeout: Duration) async -> ConnectionLook {
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
