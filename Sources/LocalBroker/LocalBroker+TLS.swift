extension LocalBroker {
    /// The settings of a broker's TLS listener, as paths of PEM files that the broker reads.
    public struct TLS: Sendable {
        /// The path of its certificate, followed by intermediate certificates.
        public var certificate: String
        /// The path of the certificate's private key.
        public var key: String
        /// The path of the authorities trusted for client certificates.
        public var authorities: String
        /// Whether clients without a certificate are refused.
        public var demandsClientCertificate: Bool
        /// The port of 127.0.0.1 to listen on; `nil` for a free one.
        public var port: Int?

        /// - Parameters:
        ///   - certificate: The path of its certificate.
        ///   - key: The path of the certificate's private key.
        ///   - authorities: The path of the authorities trusted for client certificates.
        ///   - demandsClientCertificate: Whether clients without a certificate are refused.
        ///   - port: The port of 127.0.0.1 to listen on; `nil` for a free one.
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

    /// `amqps://guest:guest@localhost:PORT`, the virtual host "/"; `nil` without ``Options/tls``.
    public nonisolated var tlsURL: String? { tlsPort.map { "amqps://guest:guest@localhost:\($0)" } }

    /// The TLS URL of one of its virtual hosts; `nil` without ``Options/tls``.
    public nonisolated func tlsURL(virtualHost: String) -> String? {
        tlsURL.map { "\($0)/\(percentEncoded(virtualHost))" }
    }
}
