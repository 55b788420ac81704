import BrokerSupport
import Testing

@testable import AMQPPool

@Suite("A peer that answers late, or never")
struct LateAnswerTests: PeerScript {
    @Test("The late answer to an operation that timed out or was cancelled never answers the next one")
    func lateAnswer() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer)
            let timedOut = await failure { () async throws(AMQPError) in
                try await channel.declareQueue("a", timeout: .milliseconds(10))
            }
            guard case .timedOut(operation: "queue.declare", _) = timedOut else {
                Issue.record("\(String(describing: timedOut))")
                return
            }
            let task = Task { await failure { () async throws(AMQPError) in try await channel.declareQueue("b") } }
            try await peer.send(
                .queueDeclareOK(queue: "a", messageCount: 7, consumerCount: 7),
                channel: 1
            )
            try await peer.wait { $0 == .queueDeclare(QueueDeclare(queue: "b", durable: true)) }
            task.cancel()
            guard case .cancelled = await task.value else {
                Issue.record("not cancelled")
                return
            }
            async let third = channel.declareQueue("c")
            try await peer.send(.queueDeclareOK(queue: "b", messageCount: 8, consumerCount: 8), channel: 1)
            try await peer.wait { $0 == .queueDeclare(QueueDeclare(queue: "c", durable: true)) }
            try await peer.send(.queueDeclareOK(queue: "c", messageCount: 9, consumerCount: 9), channel: 1)
            #expect(try await third == QueueStatus(name: "c", messageCount: 9, consumerCount: 9))
        }
    }

    @Test("A channel whose opening timed out is closed as soon as the broker answers, and its number used again")
    func lateOpen() async throws {
        try await withPeer({ $0.operationTimeout = .milliseconds(10) }) { peer, connection in
            let error = await failure { () async throws(AMQPError) in try await connection.openChannel() }
            guard case .timedOut(operation: "channel.open", _) = error else {
                Issue.record("\(String(describing: error))")
                return
            }
            try await peer.wait { if case .channelClose = $0 { true } else { false } }
            try await peer.send(.channelOpenOK, .channelCloseOK, channel: 1)
            try await eventually("the number is used again") {
                _ = await failure { () async throws(AMQPError) in try await connection.openChannel() }
                return peer.received.values.filter { $0 == .method(channel: 1, .channelOpen) }.count == 2
            }
        }
    }

    @Test("A channel whose close is not answered ends at the deadline, and its number stays taken until the answer")
    func noCloseOK() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            let outcomes = Recorder<String>()
            channel.submit(publish("x", outcomes))
            await channel.close(timeout: .milliseconds(10))
            #expect(outcomes.values == ["unknown"])
            channel.submit(publish("y", outcomes))
            channel.acknowledge(1)
            #expect(try await outcomes.wait(for: 2) == ["unknown", "notWritten"])
            #expect(!channel.isReady)
            _ = try await openChannel(connection, peer, number: 2)
            try await peer.send(.channelCloseOK, channel: 1)
            try await peer.send(.connectionBlocked(reason: "that was read"))
            try await eventually("the answer was read") { connection.blockedReason != nil }
            async let opening = connection.openChannel()
            try await peer.received.wait { frames in
                frames.count { $0 == .method(channel: 1, .channelOpen) } == 2
            }
            try await peer.send(.channelOpenOK, channel: 1)
            #expect(try await opening.number == 1)
            #expect(!peer.received.values.contains(.method(channel: 1, .basicAck(deliveryTag: 1, multiple: false))))
        }
    }

    @Test("A connection whose close is not answered ends at the deadline, and what is unconfirmed is in doubt")
    func noConnectionCloseOK() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            let outcomes = Recorder<String>()
            channel.submit(publish("x", outcomes))
            await connection.close(timeout: .milliseconds(10))
            #expect(outcomes.values == ["unknown"])
            guard case .timedOut(operation: "connection.close", _) = connection.closedError else {
                Issue.record("\(String(describing: connection.closedError))")
                return
            }
            try await peer.ended.wait(for: 1)
        }
    }

    @Test("When we close the connection by handshake, what is unconfirmed counts as delivered")
    func cleanClose() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            let outcomes = Recorder<String>()
            channel.submit(publish("x", outcomes))
            async let closing: Void = connection.close(timeout: .seconds(60))
            try await peer.wait { if case .connectionClose = $0 { true } else { false } }
            #expect(
                peer.received.values.contains { if case .method(_, let m) = $0 { isPublish("x")(m) } else { false } }
            )
            try await peer.send(.connectionCloseOK)
            await closing
            #expect(outcomes.values == ["presumedDelivered"])
            guard case .connectionClosed? = channel.closedError else {
                Issue.record("\(String(describing: channel.closedError))")
                return
            }
        }
    }
}
