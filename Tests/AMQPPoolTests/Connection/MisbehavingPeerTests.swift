import NIOCore
import Testing

@testable import AMQPPool

@Suite("A peer that misbehaves")
struct MisbehavingPeerTests: PeerScript {
    @Test("One that says nothing is given up at the deadline, one that is cancelled at once; both are disconnected")
    func silentHandshake() async throws {
        let peer = try await ScriptedPeer.start()
        var configuration = ConnectionConfiguration()
        configuration.connectTimeout = .seconds(2)
        let settings = configuration
        let error = await failure { () async throws(AMQPError) in
            try await AMQPConnection.open(peer.endpoint, configuration: settings)
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
                try await AMQPConnection.open(second.endpoint, configuration: .patient)
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
            try await AMQPConnection.open(peer.endpoint, configuration: .patient)
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
            try await AMQPConnection.open(peer.endpoint, configuration: .patient)
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
        async let opening = AMQPConnection.open(peer.endpoint, configuration: .patient)
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
}
