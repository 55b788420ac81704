import NIOCore
import NIOPosix
import NIOSSL
import NIOTLS

/// Passes the events of the transport to the connection. Runs on the connection's event loop, which is its executor.
final class ConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let connection: AMQPConnection
    private let tls: TLSSession?
    private var reason = "closed by the peer"
    private var failure: TLSFailure?

    init(connection: AMQPConnection, tls: TLSSession?) {
        self.connection = connection
        self.tls = tls
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = unwrapInboundIn(data)
        connection.assumeIsolated { $0.received(bytes) }
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        connection.assumeIsolated { $0.readCompleted() }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.handshakeCompleted) = event as? TLSUserEvent { encrypted(context) }
        context.fireUserInboundEventTriggered(event)
    }

    private func encrypted(_ context: ChannelHandlerContext) {
        if let tls, !tls.accepts(peerCertificate(context)) {
            return errorCaught(context: context, error: NIOSSLExtraError.failedToValidateHostname)
        }
        connection.assumeIsolated { connection in connection.drive { $0.encrypted(&$1) } }
    }

    private func peerCertificate(_ context: ChannelHandlerContext) -> NIOSSLCertificate? {
        try? context.pipeline.syncOperations.nioSSL_peerCertificate()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The first error is the cause.
        if failure == nil, let tls {
            failure = TLSFailure(
                error,
                host: tls.host,
                certificate: peerCertificate(context),
                hasClientCertificate: tls.hasClientCertificate
            )
        }
        if let failure {
            reason = "\(failure)"
        } else if error is IOError {
            reason = AMQPError.connectFailureReason(error)
        } else if case NIOSSLError.uncleanShutdown = error {
            // Handled like the end of a connection without TLS.
        } else {
            reason = "\(error)"
        }
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        let (reason, failure) = (reason, failure)
        connection.assumeIsolated { $0.transportClosed(reason: reason, failure) }
    }
}
