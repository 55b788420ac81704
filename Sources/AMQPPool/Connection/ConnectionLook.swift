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
