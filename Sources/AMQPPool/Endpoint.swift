/// Where a broker is and how to log in to it: a RabbitMQ URI (https://www.rabbitmq.com/docs/uri-spec and
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
/// A literal cannot throw. One that is not a valid URI keeps its ``error``, and every attempt to connect to it fails with
/// that. A URI from the outside goes through ``init(url:)``, which throws at once.
///
/// The password is in no description, mirror or error.
public struct Endpoint: Sendable, Hashable {
    /// The name or address of the broker; an IPv6 address without its brackets.
    public let host: String
    /// The TCP port.
    public let port: Int
    /// The virtual host.
    public let virtualHost: String
    /// The user to log in as.
    public let username: String
    /// Whether the connection is encrypted: `amqps`.
    public let tls: Bool
    /// The heartbeat interval to ask for: a peer that is silent for two of them is lost. The broker may ask for less, and
    /// chooses when this is zero; only when it wants none either, there are none. `nil` if the URI does not say.
    public let heartbeat: Duration?
    /// How long connecting may take. `nil` if the URI does not say.
    public let connectionTimeout: Duration?
    /// How many channels a connection may have at the most; 0 is no limit of the client's. `nil` if the URI does not say.
    public let channelMax: UInt16?
    /// What is wrong with the literal this endpoint was written as. `nil` if nothing is.
    public let error: EndpointError?

    /// How to encrypt and authenticate, as the URI says.
    package let security: EndpointSecurity
    private let secret: Secret

    /// The password.
    package var password: String { secret.value }

    /// The endpoint a URI names.
    ///
    /// - Throws: ``EndpointError``, which says what is wrong and does not contain the password.
    public init(url: String) throws(EndpointError) {
        var parser = EndpointParser(url)
        self.init(try parser.parse(), error: nil)
    }

    /// The endpoint of these parts, as they are: nothing is percent-encoded.
    ///
    /// - Parameters:
    ///   - host: a name or an address.
    ///   - port: nil is 5672, with TLS 5671.
    ///   - virtualHost: its name.
    ///   - username: whom to log in as.
    ///   - password: with what.
    ///   - tls: whether to encrypt, as ``ConnectionConfiguration/tls`` says.
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

    /// The SASL mechanisms to log in with, by preference: those of the URI that this client knows.
    var loginMechanisms: [String] {
        guard !security.mechanisms.isEmpty else { return ["PLAIN"] }
        return security.mechanisms.map { $0.uppercased() }.filter { ["PLAIN", "EXTERNAL"].contains($0) }
    }

    /// Throws what makes it impossible to connect: the error of a literal, or a mechanism this client does not have. To be
    /// called before any socket is opened.
    package func checkConnectable() throws(EndpointError) {
        if let error { throw error }
        if loginMechanisms.isEmpty {
            throw .mechanismNotAvailable(security.mechanisms.joined(separator: ", "))
        }
    }
}

extension Endpoint: ExpressibleByStringLiteral {
    /// The endpoint a URI names, or one that keeps the ``error`` and cannot be connected to.
    public init(stringLiteral url: String) {
        do throws(EndpointError) {
            try self.init(url: url)
        } catch {
            self.init(EndpointParts(), error: error)
        }
    }
}

extension Endpoint: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The URI without user and password, for logs and errors.
    public var redacted: String { uri(user: "") }

    /// The URI with the user and without the password.
    public var description: String { uri(user: username.isEmpty ? ":@" : percentEncoded(username) + "@") }

    /// The URI with the user and without the password.
    public var debugDescription: String { description }

    /// The parts that are no secret.
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

    /// RFC 3986: everything but unreserved characters as percent-encoded UTF-8.
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

/// What a URI says about encryption and authentication.
package struct EndpointSecurity: Sendable, Hashable {
    /// `verify`: whether the broker's certificate is checked. `nil` if the URI does not say; then it is.
    package var verifyPeer: Bool?
    /// `cacertfile`
    package var caCertificateFile: String?
    /// `certfile`
    package var certificateFile: String?
    /// `keyfile`
    package var keyFile: String?
    /// `server_name_indication`
    package var serverName: String?
    /// `auth_mechanism`, in lower case; empty if the URI does not say.
    package var mechanisms: [String] = []
}

/// A value that prints as nothing.
private struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    let value: String

    var description: String { "***" }
    var debugDescription: String { "***" }
    var customMirror: Mirror { Mirror(self, children: []) }
}
