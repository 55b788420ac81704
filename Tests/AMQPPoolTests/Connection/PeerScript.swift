import NIOCore
import Synchronization
import Testing

@testable import AMQPPool

/// What the suites with a scripted peer have in common.
protocol PeerScript {}

extension PeerScript {
    /// Runs the body with a connection to a peer that does only what the body tells it.
    func withPeer(
        heartbeat: UInt16 = 0,
        answersHeartbeats: Bool = false,
        _ configure: (inout ConnectionConfiguration) -> Void = { _ in },
        _ body: @escaping @Sendable (ScriptedPeer, AMQPConnection) async throws -> Void
    ) async throws {
        let peer = try await ScriptedPeer.start()
        peer.answersHeartbeats.store(answersHeartbeats, ordering: .relaxed)
        var configuration = ConnectionConfiguration()
        configuration.connectTimeout = .seconds(60)
        configuration.operationTimeout = .seconds(60)
        configure(&configuration)
        let settings = configuration
        async let opening = AMQPConnection.open(peer.endpoint, configuration: settings)
        try await peer.greet(heartbeat: heartbeat)
        let connection = try await opening
        try await within(.seconds(60)) { try await body(peer, connection) }
        await connection.close(timeout: .zero)
        await peer.stop()
    }

    /// A channel, opened by the peer's answer.
    func openChannel(
        _ connection: AMQPConnection,
        _ peer: ScriptedPeer,
        confirming: Bool = false,
        number: UInt16 = 1
    ) async throws -> AMQPChannel {
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

    func publish(_ name: String, _ outcomes: Recorder<String>, bytes: Int = 1) -> Publish {
        Publish(
            exchange: "",
            routingKey: name,
            body: ByteBuffer(repeating: 0, count: bytes),
            outcome: { outcomes.append($0.name) }
        )
    }

    func isPublish(_ name: String) -> @Sendable (Method) -> Bool {
        { $0 == .basicPublish(exchange: "", routingKey: name, mandatory: false) }
    }
}
