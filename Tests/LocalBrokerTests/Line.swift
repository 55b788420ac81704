import BrokerSupport
import NIOCore
import NIOPosix
import Synchronization
import Testing

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

/// One end of a TCP connection, and what it has seen.
final class Line: Sendable {
    enum End: Sendable { case finished, reset }

    private struct State {
        var received = ByteBuffer()
        var end: End?
    }

    private let state = Mutex(State())
    private let channel = Mutex<(any Channel)?>(nil)

    static func open(to port: Int) async throws -> Line {
        let line = Line()
        _ = try await ClientBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .channelOption(.allowRemoteHalfClosure, value: true)
            .channelInitializer { line.attach($0, echoes: false) }
            .connect(host: "127.0.0.1", port: port)
            .get()
        return line
    }

    /// All that was received.
    var received: ByteBuffer { state.withLock { $0.received } }
    /// How the other side ended it, or nil.
    var end: End? { state.withLock { $0.end } }

    @discardableResult
    func send(_ bytes: ByteBuffer) -> EventLoopFuture<Void> { open.writeAndFlush(bytes) }

    func send(_ text: String) { send(ByteBuffer(string: text)) }

    /// FIN after what was sent before.
    func finish() { open.close(mode: .output, promise: nil) }

    func close() { open.close(promise: nil) }

    func reset() {
        _ = (open as? any SocketOptionProvider)?.setSoLinger(linger(l_onoff: 1, l_linger: 0))
        open.close(promise: nil)
    }

    private var open: any Channel {
        guard let channel = channel.withLock({ $0 }) else { preconditionFailure("not connected") }
        return channel
    }

    func attach(_ channel: any Channel, echoes: Bool) -> EventLoopFuture<Void> {
        self.channel.withLock { $0 = channel }
        return channel.eventLoop.makeCompletedFuture {
            try channel.pipeline.syncOperations.addHandler(Handler(self, echoes: echoes))
        }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer
        private let line: Line
        private let echoes: Bool

        init(_ line: Line, echoes: Bool) {
            self.line = line
            self.echoes = echoes
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            line.state.withLock { _ = $0.received.writeImmutableBuffer(bytes) }
            if echoes { context.writeAndFlush(wrapOutboundOut(bytes), promise: nil) }
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            guard case .some(.inputClosed) = event as? ChannelEvent else { return }
            line.state.withLock { $0.end = $0.end ?? .finished }
            guard echoes else { return }
            // NIO drops what is not written yet when the output of a channel is closed whose input has ended.
            context.writeAndFlush(wrapOutboundOut(ByteBuffer())).assumeIsolated().whenComplete { _ in
                context.close(mode: .output, promise: nil)
            }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            line.state.withLock { $0.end = .reset }
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            line.state.withLock { $0.end = $0.end ?? .finished }
        }
    }
}

/// Sends back what it gets.
final class EchoServer: Sendable {
    private let accepted = Mutex<[Line]>([])
    private let listener = Mutex<(any Channel)?>(nil)

    static func start() async throws -> EchoServer {
        let server = EchoServer()
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer { channel in
                let line = Line()
                return line.attach(channel, echoes: true).map { server.accepted.withLock { $0.append(line) } }
            }
            .bind(host: "127.0.0.1", port: 0)
            .get()
        server.listener.withLock { $0 = listener }
        return server
    }

    var port: Int { listener.withLock { $0?.localAddress?.port } ?? 0 }
    /// Its connections, in the order in which they came.
    var lines: [Line] { accepted.withLock { $0 } }

    func has(connections count: Int) async throws {
        try await eventually("\(count) connections have come") { lines.count >= count }
    }

    func stop() async {
        for line in lines { line.close() }
        try? await listener.withLock { $0 }?.close().get()
    }
}
