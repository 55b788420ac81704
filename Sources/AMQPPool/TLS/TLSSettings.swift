/// How connections to `amqps` endpoints are encrypted, and who is believed to be the broker.
///
///     var configuration = ConnectionConfiguration()
///     configuration.tls.authorities = .file("/etc/shop/broker-ca.pem")
///     configuration.tls.clientCertificate = .files(certificate: "/etc/shop/client.pem", key: "/etc/shop/client.key")
///
/// By default the broker must have a certificate for the host of its URI (a name or an IP address), signed by an authority
/// that the operating system trusts, and TLS 1.2 or later is spoken. Whatever is wrong has a ``TLSFailure`` of its own.
///
/// Query parameters of a URI (`cacertfile`, `certfile`, `keyfile`, `verify`, `server_name_indication`) win over these
/// settings, one by one. Files, those of the operating system too, are looked at before each attempt to connect, and read anew when
/// they have changed: a renewed certificate is used from the next attempt on. A folder of authorities is looked into whenever a
/// certificate is checked.
public struct TLSSettings: Sendable {
    /// Whose signature under the broker's certificate counts.
    public enum Authorities: Sendable, Hashable {
        /// Those that the operating system trusts.
        case system
        /// Those in a file of PEM certificates, or in a folder of them as `openssl rehash` makes it; no others.
        case file(String)
        /// Those in this PEM text; no others.
        case pem(String)
    }

    /// What of the broker's certificate is checked.
    public enum Verification: Sendable, Hashable {
        /// Its signature, its dates, and that it is for the host connected to.
        case full
        /// Its signature and dates, but not the host: **any** holder of a certificate of the authorities can be in the
        /// middle, read everything, and change it.
        case insecureAnyHost
        /// Nothing: **anybody** can be in the middle, read everything, the password included, and change it. For `verify_none`
        /// of a URI. Each connection logs a warning.
        case insecureAnyCertificate
    }

    /// A version of TLS.
    public enum Version: Sendable, Hashable {
        /// TLS 1.2
        case tls12
        /// TLS 1.3
        case tls13
    }

    /// Whose signature counts. Default: whom the operating system trusts. A URI's `cacertfile` wins.
    public var authorities: Authorities
    /// What this side shows to a broker that asks for a certificate (`verify_peer`), and what the SASL mechanism EXTERNAL takes
    /// the user from. Default none. A URI's `certfile` and `keyfile` win.
    public var clientCertificate: ClientCertificate?
    /// The name the broker's certificate must have, which is also sent to it (SNI); nil is the host of the URI. For brokers that
    /// are reached by an address or an alias. A URI's `server_name_indication` wins.
    public var serverName: String?
    /// What is checked. Default: everything. A URI's `verify` wins.
    public var verification: Verification
    /// The least version to speak. Default TLS 1.2.
    public var minimumVersion: Version

    /// Of all copies of these settings, and so of all connections of a pool.
    let contexts = TLSContextCache()

    /// The defaults where nothing else is given. Each parameter is the property of its name.
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

    /// In files of PEM; read anew when they have changed before an attempt to connect.
    ///
    /// - Parameters:
    ///   - certificate: the path of the certificate, followed by those between it and the authority.
    ///   - key: the path of the key; may be the same file.
    ///   - passphrase: of an encrypted key.
    public static func files(certificate: String, key: String, passphrase: String? = nil) -> ClientCertificate {
        ClientCertificate(certificate: .file(certificate), key: .file(key), passphrase: passphrase)
    }

    /// In PEM texts.
    ///
    /// - Parameters:
    ///   - certificate: the certificate, followed by those between it and the authority.
    ///   - key: the key.
    ///   - passphrase: of an encrypted key.
    public static func pem(certificate: String, key: String, passphrase: String? = nil) -> ClientCertificate {
        ClientCertificate(certificate: .pem(certificate), key: .pem(key), passphrase: passphrase)
    }
}

extension ClientCertificate: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Where the certificate is.
    public var description: String {
        if case .file(let path) = certificate { "certificate of \(path)" } else { "certificate" }
    }

    /// Where the certificate is.
    public var debugDescription: String { description }

    /// Nothing.
    public var customMirror: Mirror { Mirror(self, children: []) }
}

extension TLSSettings {
    /// These settings with what the endpoint's URI says.
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
