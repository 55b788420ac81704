import BrokerSupport
import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// Ends TLS in front of a broker that has none, with whatever certificate a test wants to show.
final class TLSTerminator: Sendable {
    private let listener: any Channel
    let port: Int

    private init(_ listener: any Channel) {
        self.listener = listener
        port = listener.localAddress?.port ?? 0
    }

    /// - Parameters:
    ///   - target: the port of 127.0.0.1 that gets what was encrypted.
    ///   - pair: what to show.
    ///   - change: changes the server's settings.
    static func start(
        to target: Int,
        showing pair: TestCertificates.Pair,
        _ change: (inout TLSConfiguration) -> Void = { _ in }
    ) async throws -> TLSTerminator {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: try NIOSSLCertificate.fromPEMFile(pair.certificate).map { .certificate($0) },
            privateKey: .privateKey(try NIOSSLPrivateKey(file: pair.key, format: .pem))
        )
        change(&configuration)
        let context = try NIOSSLContext(configuration: configuration)
        let listener = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelInitializer { client in
                client.eventLoop.makeCompletedFuture {
                    let operations = client.pipeline.syncOperations
                    try operations.addHandler(NIOSSLServerHandler(context: context))
                    try operations.addHandler(Relay(target: target))
                }
            }
            .bind(host: "127.0.0.1", port: 0).get()
        return TLSTerminator(listener)
    }

    func stop() async {
        try? await listener.close()
    }

    /// One side of the connection; the broker's has no target. Both are on one event loop.
    private final class Relay: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer

        private let target: Int?
        private var peer: (any Channel)?
        private var waiting: [ByteBuffer] = []

        init(target: Int?, peer: (any Channel)? = nil) {
            self.target = target
            self.peer = peer
        }

        func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
            if case .some(.handshakeCompleted) = event as? TLSUserEvent, let target { connect(context.channel, target) }
            context.fireUserInboundEventTriggered(event)
        }

        private func connect(_ client: any Channel, _ target: Int) {
            ClientBootstrap(group: client.eventLoop)
                .channelInitializer { broker in
                    broker.eventLoop.makeCompletedFuture {
                        try broker.pipeline.syncOperations.addHandler(Relay(target: nil, peer: client))
                    }
                }
                .connect(host: "127.0.0.1", port: target)
                .assumeIsolated()
                .whenComplete { result in
                    guard case .success(let broker) = result else { return client.close(promise: nil) }
                    self.peer = broker
                    for bytes in self.waiting { broker.writeAndFlush(bytes, promise: nil) }
                    self.waiting = []
                    if !client.isActive { broker.close(promise: nil) }
                }
        }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            let bytes = unwrapInboundIn(data)
            if let peer { peer.writeAndFlush(bytes, promise: nil) } else { waiting.append(bytes) }
        }

        func errorCaught(context: ChannelHandlerContext, error: any Error) {
            context.close(promise: nil)
        }

        func channelInactive(context: ChannelHandlerContext) {
            peer?.close(promise: nil)
        }
    }
}
