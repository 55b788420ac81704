import NIOCore
import Synchronization
import Testing

@testable import AMQPPool

@Suite("A peer that misbehaves")
struct MisbehavingPeerTests {
    /// Runs the body with a connection to a peer that does only what the body tells it.
    private func withPeer(
        heartbeat: UInt16 = 0,
        answersHeartbeats: Bool = false,
        _ configure: (inout ConnectionConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (ScriptedPeer, AMQPPool.Connection) async throws -> Void
    ) async throws {
        let peer = try await ScriptedPeer.start()
        peer.answersHeartbeats.store(answersHeartbeats, ordering: .relaxed)
        var configuration = ConnectionConfiguration()
        configuration.connectTimeout = .seconds(60)
        configuration.operationTimeout = .seconds(60)
        configure(&configuration)
        let settings = configuration
        async let opening = Connection.open(peer.endpoint, configuration: settings)
        try await peer.greet(heartbeat: heartbeat)
        let connection = try await opening
        try await within(.seconds(60)) { try await body(peer, connection) }
        await connection.close(timeout: .zero)
        await peer.stop()
    }

    /// A channel, opened by the peer's answer.
    private func openChannel(
        _ connection: AMQPPool.Connection,
        _ peer: ScriptedPeer,
        confirming: Bool = false,
        number: UInt16 = 1
    ) async throws -> AMQPPool.Channel {
        async let opening = connection.openChannel()
        try await peer.received.wait { $0.contains(.method(channel: number, .channelOpen)) }
        try await peer.send(.channelOpenOK, channel: number)
        let channel = try await opening
        if confirming {
            async let selecting: Void = channel.selectConfirms()
            try await peer.received.wait { $0.contains(.method(channel: number, .confirmSelect)) }
            try await peer.send(.confirmSelectOK, channel: number)
            try await selecting
        }
        return channel
    }

    private func publish(_ name: String, _ outcomes: Recorder<String>, bytes: Int = 1) -> Publish {
        Publish(
            exchange: "",
            routingKey: name,
            body: ByteBuffer(repeating: 0, count: bytes),
            outcome: { outcomes.append($0.name) }
        )
    }

    private func isPublish(_ name: String) -> @Sendable (Method) -> Bool {
        { $0 == .basicPublish(exchange: "", routingKey: name, mandatory: false) }
    }

    // MARK: Handshake

    @Test("One that says nothing is given up at the deadline, one that is cancelled at once; both are disconnected")
    func silentHandshake() async throws {
        let peer = try await ScriptedPeer.start()
        var configuration = ConnectionConfiguration()
        configuration.connectTimeout = .seconds(2)
        let settings = configuration
        let error = await failure { () async throws(AMQPError) in
            try await Connection.open(peer.endpoint, configuration: settings)
        }
        guard case .handshakeFailed(_, stage: .authenticate, _) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error?.isRetrySafe == true)
        try await peer.ended.wait(for: 1)
        await peer.stop()

        let second = try await ScriptedPeer.start()
        let task = Task {
            await failure { () async throws(AMQPError) in
                try await Connection.open(second.endpoint, configuration: .patient)
            }
        }
        try await second.connected.wait(for: 1)
        task.cancel()
        guard case .cancelled = await task.value else {
            Issue.record("not cancelled")
            return
        }
        try await second.ended.wait(for: 1)
        await second.stop()
    }

    @Test(
        "One that speaks something else is refused",
        arguments: ["AMQP\0\0\u{9}\u{1}", "HTTP/1.1 400 Bad Request\r\n\r\n"]
    )
    func garbage(_ text: String) async throws {
        let peer = try await ScriptedPeer.start()
        async let opening = failure { () async throws(AMQPError) in
            try await Connection.open(peer.endpoint, configuration: .patient)
        }
        try await peer.connected.wait(for: 1)
        try await peer.send(bytes: ByteBuffer(string: text))
        guard case .protocolViolation = await opening else {
            Issue.record("accepted")
            return
        }
        await peer.stop()
    }

    @Test("One that hangs up in the handshake leaves an error that tells the stage, and no password in it")
    func hangsUp() async throws {
        let peer = try await ScriptedPeer.start()
        async let opening = failure { () async throws(AMQPError) in
            try await Connection.open(peer.endpoint, configuration: .patient)
        }
        try await peer.connected.wait(for: 1)
        try await peer.send(ScriptedPeer.start)
        try await peer.wait { if case .connectionStartOK = $0 { true } else { false } }
        await peer.cut()
        let error = await opening
        #expect(error?.stage == .authenticate)
        #expect(!String(reflecting: error).contains("s3cret"))
        await peer.stop()
    }

    @Test("Frames that come byte by byte are put together")
    func partialFrames() async throws {
        let peer = try await ScriptedPeer.start()
        async let opening = Connection.open(peer.endpoint, configuration: .patient)
        try await peer.connected.wait(for: 1)
        var bytes = ByteBuffer()
        try FrameEncoder(maximumFrameSize: 131_072).encode(ScriptedPeer.start, channel: 0, into: &bytes)
        for byte in bytes.readableBytesView { try await peer.send(bytes: ByteBuffer(integer: byte)) }
        try await peer.wait { if case .connectionStartOK = $0 { true } else { false } }
        try await peer.send(.connectionTune(channelMax: 1, frameMax: 4096, heartbeat: 0))
        try await peer.wait { if case .connectionOpen = $0 { true } else { false } }
        try await peer.send(.connectionOpenOK)
        let connection = try await opening
        let channel = try await openChannel(connection, peer)
        let error = await failure { () async throws(AMQPError) in try await connection.openChannel() }
        guard case .tooManyChannels(limit: 1) = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        withExtendedLifetime(channel) {}
        await connection.close(timeout: .zero)
        await peer.stop()
    }

    // MARK: Operations

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
            try await peer.wait { $0 == .queueDeclare(QueueDeclare(queue: "b")) }
            task.cancel()
            guard case .cancelled = await task.value else {
                Issue.record("not cancelled")
                return
            }
            async let third = channel.declareQueue("c")
            try await peer.send(.queueDeclareOK(queue: "b", messageCount: 8, consumerCount: 8), channel: 1)
            try await peer.wait { $0 == .queueDeclare(QueueDeclare(queue: "c")) }
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

    // MARK: Losing the connection

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

    @Test("Garbage and frames for a channel that is not open end the connection, and the peer is told why")
    func violations() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer)
            try await peer.send(.basicAck(deliveryTag: 1, multiple: false), channel: 5)
            guard case .protocolViolation? = await channel.waitUntilClosed() else {
                Issue.record("\(String(describing: channel.closedError))")
                return
            }
            try await peer.wait { if case .connectionClose(let reason) = $0 { reason.replyCode == 505 } else { false } }
            try await peer.ended.wait(for: 1)
        }
        try await withPeer { peer, connection in
            try await peer.send(bytes: ByteBuffer(bytes: [1, 0, 0, 0, 0, 0, 4, 1, 2, 3, 4, 0]))
            guard case .protocolViolation? = await connection.waitUntilClosed() else {
                Issue.record("\(String(describing: connection.closedError))")
                return
            }
            try await peer.ended.wait(for: 1)
        }
    }

    @Test("The broker's close is acknowledged and ends the connection with its code and text")
    func closedByBroker() async throws {
        try await withPeer { peer, connection in
            let channel = try await openChannel(connection, peer)
            try await peer.send(.connectionClose(CloseReason(replyCode: 320, replyText: "CONNECTION_FORCED - bye")))
            #expect(await channel.waitUntilClosed()?.replyCode == 320)
            #expect(await connection.waitUntilClosed()?.description.contains("CONNECTION_FORCED - bye") == true)
            try await peer.wait { $0 == .connectionCloseOK }
            try await peer.ended.wait(for: 1)
        }
    }

    // MARK: Heartbeats and blocking

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
