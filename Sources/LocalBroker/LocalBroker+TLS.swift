extension LocalBroker {
    /// What a broker needs to listen for encrypted connections too. Paths of PEM files; it reads them itself.
    public struct TLS: Sendable {
        /// Its certificate, followed by those between it and the authority.
        public var certificate: String
        /// The private key of the certificate.
        public var key: String
        /// The authorities it believes when a client shows a certificate.
        public var authorities: String
        /// Whether it refuses clients that show no certificate.
        public var demandsClientCertificate: Bool
        /// The port of 127.0.0.1 to listen on; a free one if nil.
        public var port: Int?

        /// - Parameters:
        ///   - certificate: the path of its certificate.
        ///   - key: the path of the certificate's private key.
        ///   - authorities: the path of the authorities it believes when a client shows a certificate.
        ///   - demandsClientCertificate: whether it refuses clients that show none.
        ///   - port: the port of 127.0.0.1 to listen on; a free one if nil.
        public init(
            certificate: String,
            key: String,
            authorities: String,
            demandsClientCertificate: Bool = false,
            port: Int? = nil
        ) {
            self.certificate = certificate
            self.key = key
            self.authorities = authorities
            self.demandsClientCertificate = demandsClientCertificate
            self.port = port
        }

        /// Lines of `rabbitmq.conf`.
        func configuration(port: Int) -> String {
            """
            listeners.ssl.local = 127.0.0.1:\(port)
            ssl_options.certfile = \(certificate)
            ssl_options.keyfile = \(key)
            ssl_options.cacertfile = \(authorities)
            ssl_options.verify = verify_peer
            ssl_options.fail_if_no_peer_cert = \(demandsClientCertificate)
            """
        }
    }

    /// `amqps://guest:guest@localhost:PORT`, the virtual host "/"; nil without ``Options/tls``.
    public nonisolated var tlsURL: String? { tlsPort.map { "amqps://guest:guest@localhost:\($0)" } }

    /// The URL of one of its virtual hosts, encrypted; nil without ``Options/tls``.
    public nonisolated func tlsURL(virtualHost: String) -> String? {
        tlsURL.map { "\($0)/\(percentEncoded(virtualHost))" }
    }
}
