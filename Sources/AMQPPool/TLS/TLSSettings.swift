/// How connections to `amqps` endpoints are encrypted, and how the broker's certificate is verified.
///
///     var configuration = ConnectionConfiguration()
///     configuration.tls.authorities = .file("/etc/shop/broker-ca.pem")
///     configuration.tls.clientCertificate = .files(certificate: "/etc/shop/client.pem", key: "/etc/shop/client.key")
///
/// By default the broker must have a certificate for the host of its URI (a name or an IP address), signed by an authority that the
/// operating system trusts, and TLS 1.2 or later is used. Each kind of failure has its own ``TLSFailure``.
///
/// The query parameters of a URI (`cacertfile`, `certfile`, `keyfile`, `verify`, `server_name_indication`) individually take precedence
/// over these settings. Files, including those of the operating system, are checked before each attempt to connect, and read again when
/// they have changed: a renewed certificate is used from the next attempt on. A folder of authorities is searched whenever a certificate is
/// verified.
public struct TLSSettings: Sendable {
    /// The authorities that may sign the broker's certificate.
    public enum Authorities: Sendable, Hashable {
        /// Those that the operating system trusts.
        case system
        /// Only those in a file of PEM certificates, or in a folder of them as created by `openssl rehash`.
        case file(String)
        /// Only those in this PEM text.
        case pem(String)
    }

    /// How the broker's certificate is verified.
    public enum Verification: Sendable, Hashable {
        /// Its signature, its dates, and that it is for the host connected to.
        case full
        /// Its signature and dates, but not the host: **any** holder of a certificate of these authorities can intercept the connection,
        /// read everything, and change it.
        case insecureAnyHost
        /// Nothing: **anybody** can intercept the connection, read everything, including the password, and change it. For `verify_none` of
        /// a URI. Each connection logs a warning.
        case insecureAnyCertificate

        /// Whether the certificate must be for the host.
        var comparesHost: Bool {
            switch self {
            case .full: true
            case .insecureAnyHost, .insecureAnyCertificate: false
            }
        }
    }

    /// A version of TLS.
    public enum Version: Sendable, Hashable {
        /// TLS 1.2
        case tls12
        /// TLS 1.3
        case tls13
    }

    /// The trusted authorities. Default: those of the operating system. A URI's `cacertfile` takes precedence.
    public var authorities: Authorities
    /// The certificate for a broker that asks for one (`verify_peer`); the SASL mechanism EXTERNAL takes the user from it. Default none. A
    /// URI's `certfile` and `keyfile` take precedence.
    public var clientCertificate: ClientCertificate?
    /// The name that the broker's certificate must have, which is also sent to it (SNI); `nil` for the host of the URI. For brokers that
    /// are reached by an address or an alias. A URI's `server_name_indication` takes precedence.
    public var serverName: String?
    /// What is verified. Default: everything. A URI's `verify` takes precedence.
    public var verification: Verification
    /// The minimum version of TLS. Default TLS 1.2.
    public var minimumVersion: Version

    /// Shared by all copies of these settings, and so by all connections of a pool.
    let contexts = TLSContextCache()

    /// Creates settings. Each parameter sets the property of its name.
    public init(
        authorities: Authorities = Authorities.system,
        clientCertificate: ClientCertificate? = nil,
        serverName: String? = nil,
        verification: Verification = Verification.full,
        minimumVersion: Version = Version.tls12
    ) {
        self.authorities = authorities
        self.clientCertificate = clientCertificate
        self.serverName = serverName
        self.verification = verification
        self.minimumVersion = minimumVersion
    }
}

/// A certificate and its private key. The key and its passphrase are in no description, mirror or error.
public struct ClientCertificate: Sendable {
    enum Source: Sendable, Hashable {
        case file(String)
        case pem(String)
    }

    let certificate: Source
    let key: Source
    let passphrase: String?

    /// Uses PEM files, which are read again when they have changed before an attempt to connect.
    ///
    /// - Parameters:
    ///   - certificate: The path of the certificate, followed by intermediate certificates.
    ///   - key: The path of the key; may be the same file.
    ///   - passphrase: The passphrase of an encrypted key.
    public static func files(certificate: String, key: String, passphrase: String? = nil) -> ClientCertificate {
        ClientCertificate(certificate: .file(certificate), key: .file(key), passphrase: passphrase)
    }

    /// Uses PEM texts.
    ///
    /// - Parameters:
    ///   - certificate: The certificate, followed by intermediate certificates.
    ///   - key: The key.
    ///   - passphrase: The passphrase of an encrypted key.
    public static func pem(certificate: String, key: String, passphrase: String? = nil) -> ClientCertificate {
        ClientCertificate(certificate: .pem(certificate), key: .pem(key), passphrase: passphrase)
    }
}

extension ClientCertificate: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The source of the certificate.
    public var description: String {
        if case .file(let path) = certificate { "certificate of \(path)" } else { "certificate" }
    }

    /// The source of the certificate.
    public var debugDescription: String { description }

    /// An empty mirror.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension TLSSettings {
    /// These settings, overridden by the endpoint's URI.
    func with(_ security: EndpointSecurity) -> TLSSettings {
        var settings = self
        if let file = security.caCertificateFile { settings.authorities = .file(file) }
        if let certificate = security.certificateFile {
            settings.clientCertificate = .files(certificate: certificate, key: security.keyFile ?? certificate)
        }
        if let name = security.serverName { settings.serverName = name }
        if let verifies = security.verifyPeer { settings.verification = verifies ? .full : .insecureAnyCertificate }
        return settings
    }
}
