import BrokerSupport
import NIOCore
import Testing

@testable import AMQPPool

@Suite("What cannot be written, or is not answered for")
struct HeldBackTests: PeerScript {
    @Test("When the connection is cut, each pending thing fails once, and says whether it was sent")
    func cut() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            let outcomes = Recorder<String>()
            channel.submit(publish("x", outcomes))
            async let declaring = failure { () async throws(AMQPError) in try await channel.declareQueue("a") }
            async let waiting = failure { () async throws(AMQPError) in try await channel.declareQueue("b") }
            async let publishing = failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), routingKey: "y")
            }
            try await peer.wait(for: isPublish("x"))
            try await peer.wait(for: isPublish("y"))
            try await peer.wait { if case .queueDeclare = $0 { true } else { false } }
            try await eventually("both operations are known") { await channel.pendingOperations == 2 }
            await peer.cut()
            let errors = [await declaring, await waiting]
            #expect(Set(errors.compactMap { $0?.name }) == ["connectionLost", "notSent"])
            guard case .unconfirmed(.connectionLost) = await publishing else {
                Issue.record("confirmed?")
                return
            }
            #expect(outcomes.values == ["unknown"])
            guard case .connectionLost? = await channel.waitUntilClosed() else {
                Issue.record("\(String(describing: channel.closedError))")
                return
            }
            channel.submit(publish("z", outcomes))
            #expect(try await outcomes.wait(for: 2) == ["unknown", "notWritten"])
            let late = await failure { () async throws(AMQPError) in try await connection.openChannel() }
            #expect(late?.name == "notSent")
        }
    }

    @Test("On a socket that takes nothing more, what was not written says so, and closing is bounded")
    func stuckSocket() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            try await peer.stopReading()
            let outcomes = Recorder<String>()
            for _ in 0..<100 { channel.submit(publish("big", outcomes, bytes: 1 << 20)) }
            let waiting = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), routingKey: "small", timeout: .milliseconds(100))
            }
            guard case .notSent(.timedOut) = waiting else {
                Issue.record("\(String(describing: waiting))")
                return
            }
            await peer.cut()
            let results = try await outcomes.wait(for: 100)
            let unknown = results.filter { $0 == "unknown" }.count
            #expect(unknown > 0 && unknown < 50)
            #expect(results.filter { $0 == "notWritten" }.count == 100 - unknown)
        }
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            try await peer.stopReading()
            let outcomes = Recorder<String>()
            for _ in 0..<30 { channel.submit(publish("big", outcomes, bytes: 1 << 20)) }
            try await eventually("the socket is full") { await !connection.isFlowing }
            await connection.close(timeout: .milliseconds(100))
            #expect(outcomes.values.count == 30)
            // What could not be encoded any more was not sent, although it was submitted before the close.
            #expect(outcomes.values.contains("unknown") && outcomes.values.contains("notWritten"))
            #expect(connection.closedError != nil)
        }
    }

    @Test("The outbox is bounded: what does not fit is refused at once, and safe to send again")
    func outboxBound() async throws {
        try await withPeer({ $0.maximumOutboxEntries = 10 }) { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            try await peer.send(.connectionBlocked(reason: "low on memory"))
            try await eventually("it is blocked") { connection.blockedReason != nil }
            let outcomes = Recorder<String>()
            for _ in 0..<11 { channel.submit(publish("x", outcomes)) }
            #expect(try await outcomes.wait(for: 1) == ["notWritten"])
            try await peer.send(.connectionUnblocked)
            try await peer.received.wait { $0.count { if case .body = $0 { true } else { false } } == 10 }
            try await peer.send(.basicAck(deliveryTag: 10, multiple: true), channel: 1)
            #expect(try await outcomes.wait(for: 11).suffix(10) == Array(repeating: "confirmed", count: 10)[...])
        }
    }

    @Test("A peer that falls silent is given up after two heartbeats; until then it gets ours")
    func silence() async throws {
        try await withPeer(heartbeat: 3) { peer, connection in
            guard case .heartbeatTimeout(.seconds(3))? = await connection.waitUntilClosed() else {
                Issue.record("\(String(describing: connection.closedError))")
                return
            }
            #expect(peer.received.values.contains(.heartbeat))
        }
    }

    @Test("A peer that answers our heartbeats is kept")
    func heartbeats() async throws {
        // Longer than two intervals, of which each may lose most to a busy machine.
        try await withPeer(heartbeat: 4, answersHeartbeats: true) { peer, connection in
            try await peer.received.wait { frames in
                frames.count { $0 == .heartbeat } >= 5 || connection.closedError != nil
            }
            #expect(connection.closedError == nil)
        }
    }

    @Test("A blocked connection holds messages back until their deadline, and writes the others when it is unblocked")
    func blocked() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer, confirming: true)
            try await peer.send(.connectionBlocked(reason: "low on memory"))
            try await eventually("it is blocked") { connection.blockedReason == "low on memory" }
            #expect(!channel.isReady)
            let blocked = await failure { () async throws(AMQPError) in
                try await channel.publish(ByteBuffer(), routingKey: "x", timeout: .milliseconds(10))
            }
            guard case .notSent(.blocked(reason: "low on memory")) = blocked else {
                Issue.record("\(String(describing: blocked))")
                return
            }
            let task = Task {
                await failure { () async throws(AMQPError) in
                    try await channel.publish(ByteBuffer(), routingKey: "y")
                }
            }
            async let publishing: Void = channel.publish(ByteBuffer(), routingKey: "z")
            try await eventually("both wait") { await channel.publishes.count == 2 }
            task.cancel()
            guard case .notSent(.cancelled) = await task.value else {
                Issue.record("not cancelled")
                return
            }
            try await peer.send(.connectionUnblocked)
            try await peer.wait(for: isPublish("z"))
            try await peer.send(.basicAck(deliveryTag: 1, multiple: false), channel: 1)
            try await publishing
            #expect(channel.isReady)
            #expect(
                !peer.received.values.contains { if case .method(_, let m) = $0 { isPublish("y")(m) } else { false } }
            )
        }
    }
}
