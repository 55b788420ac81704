import NIOCore
import NIOPosix
import Synchronization
import Testing

@testable import AMQPPool

/// A broker that does only what a test tells it to: it speaks real frames, at the wrong time or not at all.
///
/// One connection. What arrives is recorded; nothing is answered by itself.
final class ScriptedPeer: Sendable {
    let received = Recorder<Frame>()
    let connected = Recorder<Bool>()
    let ended = Recorder<Bool>()
    /// On the event loop, whatever the test's own tasks are doing.
    let answersHeartbeats = Atomic(false)
    private let listener: any NIOCore.Channel
    private let connection = Mutex<(any NIOCore.Channel)?>(nil)
    let port: Int

    private init(listener: any NIOCore.Channel) {
        self.listener = listener
        port = listener.localAddress?.port ?? 0
    }

    static func start() async throws -> ScriptedPeer {
        let accepted = Mutex<ScriptedPeer?>(nil)
        let box = Box(accepted)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { channel in
                channel.eventLoop.makeCompletedFuture {
                    guard let peer = box.value.withLock({ $0 }) else { return }
                    peer.connection.withLock { $0 = channel }
                    try channel.pipeline.syncOperations.addHandler(Handler(peer: peer))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        let peer = ScriptedPeer(listener: listener)
        box.value.withLock { $0 = peer }
        return peer
    }

    private final class Box: Sendable {
        let value: Mutex<ScriptedPeer?>
        init(_ value: consuming Mutex<ScriptedPeer?>) { self.value = value }
    }

    var endpoint: Endpoint { Endpoint(host: "127.0.0.1", port: port, password: "s3cret") }

    func stop() async {
        try? await listener.close()
        await cut()
    }

    /// Ends the TCP connection.
    func cut() async {
        try? await connection.withLock { $0 }?.close()
    }

    /// Reads nothing more; the socket's buffers fill up.
    func stopReading() async throws {
        try await connection.withLock { $0 }?.setOption(.autoRead, value: false).get()
    }

    func resumeReading() async throws {
        try await connection.withLock { $0 }?.setOption(.autoRead, value: true).get()
    }

    func send(bytes: ByteBuffer) async throws {
        try await connection.withLock { $0 }?.writeAndFlush(bytes)
    }

    func send(_ methods: Method..., channel: UInt16 = 0) async throws {
        var buffer = ByteBuffer()
        let encoder = FrameEncoder(maximumFrameSize: 131_072)
        for method in methods { try encoder.encode(method, channel: channel, into: &buffer) }
        try await send(bytes: buffer)
    }

    func send(
        _ method: Method,
        properties: MessageProperties = MessageProperties(),
        body: String,
        channel: UInt16 = 1
    ) async throws {
        var buffer = ByteBuffer()
        let encoder = FrameEncoder(maximumFrameSize: 131_072)
        try encoder.encode(
            method,
            channel: channel,
            properties: properties,
            body: ByteBuffer(string: body),
            into: &buffer
        )
        try await send(bytes: buffer)
    }

    /// Waits for the method, wherever it is among what has arrived.
    func wait(for isWanted: @escaping @Sendable (Method) -> Bool) async throws {
        try await received.wait { frames in
            frames.contains { if case .method(_, let method) = $0 { isWanted(method) } else { false } }
        }
    }

    /// Plays the broker's part of the handshake.
    func greet(heartbeat: UInt16 = 0) async throws {
        try await tune(heartbeat: heartbeat)
        try await wait { if case .connectionOpen = $0 { true } else { false } }
        try await send(.connectionOpenOK)
    }

    /// Plays it up to the limits that the broker proposes.
    func tune(heartbeat: UInt16 = 0, channelMax: UInt16 = 2047) async throws {
        try await connected.wait(for: 1)
        try await send(Self.start)
        try await wait { if case .connectionStartOK = $0 { true } else { false } }
        try await send(.connectionTune(channelMax: channelMax, frameMax: 131_072, heartbeat: heartbeat))
    }

    static let start = Method.connectionStart(
        ConnectionStart(
            versionMajor: 0,
            versionMinor: 9,
            serverProperties: [:],
            mechanisms: "AMQPLAIN PLAIN",
            locales: "en_US"
        )
    )

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        private let peer: ScriptedPeer
        private let decoder = FrameDecoder(maximumFrameSize: 131_072)
        private var header = FrameEncoder.protocolHeader.count

        init(peer: ScriptedPeer) {
            self.peer = peer
        }

        func channelActive(context: ChannelHandlerContext) {
            peer.connected.append(true)
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            var bytes = unwrapInboundIn(data)
            let skipped = min(header, bytes.readableBytes)
            bytes.moveReaderIndex(forwardBy: skipped)
            header -= skipped
            decoder.append(bytes)
            while let frame = try? decoder.next() {
                peer.received.append(frame)
                if frame == .heartbeat, peer.answersHeartbeats.load(ordering: .relaxed) {
                    var answer = ByteBuffer()
                    FrameEncoder(maximumFrameSize: 131_072).encodeHeartbeat(into: &answer)
                    context.writeAndFlush(NIOAny(answer), promise: nil)
                }
            }
        }

        func channelInactive(context: ChannelHandlerContext) {
            peer.ended.append(true)
        }
    }
}

extension ConnectionConfiguration {
    /// For tests in which no deadline has a part: on a machine that has much to do the default ones may pass.
    static var patient: ConnectionConfiguration {
        var configuration = ConnectionConfiguration()
        configuration.connectTimeout = .seconds(120)
        configuration.operationTimeout = .seconds(120)
        return configuration
    }
}
