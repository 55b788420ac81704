/// The address of a broker and the credentials for it: a RabbitMQ URI (https://www.rabbitmq.com/docs/uri-spec and
/// https://www.rabbitmq.com/docs/uri-query-parameters).
///
///     let endpoint: Endpoint = "amqp://guest:guest@127.0.0.1:5672"
///     let endpoint = try Endpoint(url: environment["AMQP_URL"] ?? "amqp://localhost")
///
/// | part | absent | |
/// |---|---|---|
/// | scheme | an error | `amqp`, or `amqps` for TLS |
/// | user, password | `guest`, `guest` | percent-encoded |
/// | host | `localhost` | a name, an IPv4 address, or an IPv6 address in brackets |
/// | port | 5672, for `amqps` 5671 | |
/// | virtual host | `/` | percent-encoded: `amqp://host/%2f` is `/`, and `amqp://host/` is the one with the empty name |
/// | `heartbeat` | the pool's setting | seconds; 0 leaves the choice to the broker |
/// | `connection_timeout` | the pool's setting | milliseconds |
/// | `channel_max` | the broker's limit | |
/// | `auth_mechanism` | `plain` | `plain` or `external`; may be repeated, the first that the broker offers is used |
/// | `verify` | the pool's setting | `verify_peer`, or `verify_none`, which lets anybody pass for the broker; these only with `amqps` |
/// | `cacertfile` | the pool's setting | the authorities to believe, in PEM |
/// | `certfile`, `keyfile` | the pool's setting | this side's certificate and key, in PEM; without a `keyfile` both are in the `certfile` |
/// | `server_name_indication` | the host | the name the broker's certificate must have |
///
/// A literal cannot throw. A literal that is not a valid URI keeps its ``error``, and every attempt to connect to it fails with that. For
/// URIs from outside use ``init(url:)``, which throws.
///
/// The password is in no description, mirror or error.
public struct Endpoint: Sendable, Hashable {
    /// The name or address of the broker; an IPv6 address without brackets.
    public let host: String
    /// The TCP port.
    public let port: Int
    /// The virtual host.
    public let virtualHost: String
    /// The user name.
    public let username: String
    /// Whether the connection is encrypted: `amqps`.
    public let tls: Bool
    /// The requested heartbeat interval: a peer that is silent for two of them is considered dead. The broker may ask for less, and chooses
    /// the interval when this is zero; there are no heartbeats only if both are zero. `nil` if not in the URI.
    public let heartbeat: Duration?
    /// The time limit for connecting. `nil` if not in the URI.
    public let connectionTimeout: Duration?
    /// The maximum number of channels per connection; 0 for no limit of the client. `nil` if not in the URI.
    public let channelMax: UInt16?
    /// The problem with the literal of this endpoint, `nil` if it is valid.
    public let error: EndpointError?

    /// The settings of the URI for encryption and authentication.
    let security: EndpointSecurity
    private let secret: Secret

    /// The password.
    package var password: String { secret.value }

    /// Creates an endpoint from a URI.
    ///
    /// - Throws: ``EndpointError``, which says what is invalid and does not contain the password.
    public init(url: String) throws(EndpointError) {
        var parser = EndpointParser(url)
        self.init(try parser.parse(), error: nil)
    }

    /// Creates an endpoint from its parts, which are used unchanged: nothing is percent-encoded.
    ///
    /// - Parameters:
    ///   - host: A name or an address.
    ///   - port: `nil` for 5672, with TLS 5671.
    ///   - virtualHost: The name of the virtual host.
    ///   - username: The user name.
    ///   - password: The password.
    ///   - tls: Whether to encrypt, according to ``ConnectionConfiguration/tls``.
    public init(
        host: String,
        port: Int? = nil,
        virtualHost: String = "/",
        username: String = "guest",
        password: String = "guest",
        tls: Bool = false
    ) {
        var parts = EndpointParts()
        parts.tls = tls
        parts.host = host
        parts.port = port
        parts.virtualHost = virtualHost
        parts.username = username
        parts.password = password
        self.init(parts, error: parts.error)
    }

    private init(_ parts: EndpointParts, error: EndpointError?) {
        host = parts.host
        port = parts.port ?? (parts.tls ? 5671 : 5672)
        virtualHost = parts.virtualHost
        username = parts.username
        tls = parts.tls
        heartbeat = parts.heartbeat
        connectionTimeout = parts.connectionTimeout
        channelMax = parts.channelMax
        security = parts.security
        secret = Secret(value: parts.password)
        self.error = error
    }

    /// The SASL mechanisms, by preference: those of the URI that this client supports.
    var loginMechanisms: [String] {
        guard !security.mechanisms.isEmpty else { return ["PLAIN"] }
        return security.mechanisms.map { $0.uppercased() }.filter { ["PLAIN", "EXTERNAL"].contains($0) }
    }

    /// Throws if the endpoint is invalid: the error of a literal, or an unsupported mechanism. Called before any socket is
    /// opened.
    package func checkConnectable() throws(EndpointError) {
        if let error { throw error }
        if loginMechanisms.isEmpty {
            throw .mechanismNotAvailable(security.mechanisms.joined(separator: ", "))
        }
    }
}

extension Endpoint: ExpressibleByStringLiteral {
    /// Creates an endpoint from a URI, or one that keeps the ``error`` and cannot be connected to.
    public init(stringLiteral url: String) {
        do throws(EndpointError) {
            try self.init(url: url)
        } catch {
            self.init(EndpointParts(), error: error)
        }
    }
}

extension Endpoint: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The URI without user name and password, for logs and errors.
    public var redacted: String { uri(user: "") }

    /// The URI with the user name and without the password.
    public var description: String { uri(user: username.isEmpty ? ":@" : percentEncoded(username) + "@") }

    /// The URI with the user name and without the password.
    public var debugDescription: String { description }

    /// The parts that are not secret.
    public var customMirror: Mirror {
        Mirror(
            self,
            children: ["host": host, "port": port, "virtualHost": virtualHost, "username": username, "tls": tls]
        )
    }

    private func uri(user: String) -> String {
        if let error { return "invalid endpoint: \(error)" }
        let name = host.contains(":") ? "[" + host.split(separator: "%").joined(separator: "%25") + "]" : host
        let path = virtualHost == "/" ? "" : "/" + percentEncoded(virtualHost)
        return "\(tls ? "amqps" : "amqp")://\(user)\(name):\(port)\(path)"
    }

    /// Percent-encodes everything but unreserved characters (RFC 3986), as UTF-8.
    private func percentEncoded(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
                UInt8(ascii: "~"):
                result.unicodeScalars.append(Unicode.Scalar(byte))
            default:
                result += byte < 16 ? "%0" : "%"
                result += String(byte, radix: 16, uppercase: true)
            }
        }
        return result
    }
}

/// The settings of a URI for encryption and authentication.
struct EndpointSecurity: Sendable, Hashable {
    /// `verify`: whether the broker's certificate is verified. `nil` if not in the URI; then it is.
    var verifyPeer: Bool?
    /// `cacertfile`
    var caCertificateFile: String?
    /// `certfile`
    var certificateFile: String?
    /// `keyfile`
    var keyFile: String?
    /// `server_name_indication`
    var serverName: String?
    /// `auth_mechanism`, in lower case; empty if not in the URI.
    var mechanisms: [String] = []
}

/// A value that prints as an empty string.
private struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    let value: String

    var description: String { "***" }
    var debugDescription: String { "***" }
    var customMirror: Mirror { Mirror(self, children: []) }
}
