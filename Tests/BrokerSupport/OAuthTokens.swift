import Foundation
import LocalBroker

/// Signs access tokens as an authorization server does, for a broker with RabbitMQ's plugin `rabbitmq_auth_backend_oauth2`.
///
/// Made with the command line tool `openssl`, which `scripts/bootstrap` installs.
public struct OAuthTokens: Sendable {
    private let folder: String
    /// The path of the key that signs.
    private let key: String

    /// With a key pair of its own. Nothing removes the folder before the process ends.
    public init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "tokens-\(UUID().uuidString)").path
        key = "\(folder)/signing.key"
        try FileManager.default.createDirectory(
            atPath: folder,
            withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700]
        )
        _ = try openssl(["genrsa", "-out", key, "2048"])
        _ = try openssl(["rsa", "-in", key, "-pubout", "-out", "\(folder)/public.pem"])
    }

    /// What a broker needs to believe the tokens, and nobody else.
    public func options(_ options: LocalBroker.Options = TestBroker.options) -> LocalBroker.Options {
        var options = options
        options.plugins.append("rabbitmq_auth_backend_oauth2")
        options.configuration += """

            auth_backends.1 = rabbit_auth_backend_oauth2
            auth_oauth2.resource_server_id = rabbitmq
            auth_oauth2.default_key = key-1
            auth_oauth2.signing_keys.key-1 = \(folder)/public.pem
            auth_oauth2.algorithms.1 = RS256
            """
        return options
    }

    /// A token.
    ///
    /// - Parameters:
    ///   - lifetime: how long the broker takes it; less than zero for one that has expired.
    ///   - rights: as `write:*/orders`, the virtual host and what is in it.
    public func token(
        lifetime: Duration = .seconds(3600),
        rights: [String] = ["configure:*/*", "write:*/*", "read:*/*"]
    ) throws -> String {
        let now = Date().timeIntervalSince1970
        let claims: [String: Any] = [
            "aud": ["rabbitmq"], "sub": "shop", "client_id": "shop", "iat": Int(now), "jti": UUID().uuidString,
            "exp": Int(now.rounded(.up)) + Int(lifetime.components.seconds),
            "scope": rights.map { "rabbitmq.\($0)" },
        ]
        let header: [String: Any] = ["alg": "RS256", "kid": "key-1", "typ": "JWT"]
        let parts = try [header, claims].map { part in
            Self.encoded(try JSONSerialization.data(withJSONObject: part, options: [.withoutEscapingSlashes]))
        }
        let text = parts.joined(separator: ".")
        let file = "\(folder)/\(UUID().uuidString)"
        try Data(text.utf8).write(to: URL(fileURLWithPath: file))
        defer { try? FileManager.default.removeItem(atPath: file) }
        return text + "." + Self.encoded(try openssl(["dgst", "-sha256", "-sign", key, file]))
    }

    private static func encoded(_ data: Data) -> String {
        data.base64EncodedString().replacingOccurrences(of: "+", with: "-").replacingOccurrences(of: "/", with: "_")
            .replacingOccurrences(of: "=", with: "")
    }
}
