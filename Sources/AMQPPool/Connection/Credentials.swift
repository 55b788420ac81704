internal import ConcurrencyPrimitives
import Supervision

/// What to log in with. The password is in no description, mirror or error.
public struct Credentials: Sendable {
    /// The user.
    public var username: String
    /// How long they are valid, from when the ``CredentialsProvider`` returned them; nil is for ever.
    public var validFor: Duration?
    let password: String

    /// A user and its password, or with OAuth 2 any name and the token.
    public init(username: String, password: String) {
        self.username = username
        self.password = password
    }

    /// Credentials that expire, as a token of OAuth 2 does.
    ///
    /// A pool asks its ``CredentialsProvider`` again when four fifths of that time are over, and tells the broker the new secret on the
    /// open connection (`connection.update-secret`). Where that has not worked when they expire, it closes the connection and connects anew.
    ///
    /// - Parameters:
    ///   - username: with OAuth 2 any name.
    ///   - password: the token.
    ///   - validFor: for how long from now: what the authorization server calls `expires_in`.
    public init(username: String, password: String, validFor: Duration) {
        self.username = username
        self.password = password
        self.validFor = validFor
    }
}

extension Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The user.
    public var description: String { username }

    /// The user.
    public var debugDescription: String { username }

    /// The user.
    public var customMirror: Mirror { Mirror(self, children: ["username": username]) }
}

/// Where credentials come from that are not in the URI, or change: asked at each attempt to connect, and so after each loss of
/// a connection; by a pool also before they expire.
///
///     configuration.credentials = CredentialsProvider { endpoint in
///         Credentials(username: "shop", password: try await vault.token(for: endpoint.host))
///     }
///
/// It has ``ConnectionConfiguration/connectTimeout``, is cancelled after that, and not waited for. When it throws, the attempt
/// has failed; of its error only the type is shown.
public struct CredentialsProvider: Sendable {
    private let provide: @Sendable (Endpoint) async throws -> Credentials

    /// A provider that runs this closure.
    public init(_ provide: @escaping @Sendable (Endpoint) async throws -> Credentials) {
        self.provide = provide
    }

    /// The credentials for one attempt, or to renew those of a connection.
    func credentials(for endpoint: Endpoint, timeout: Duration) async throws(AMQPError) -> Credentials {
        let answer = OneShot<Result<Credentials, AMQPError>>()
        func failed(_ reason: String) -> Result<Credentials, AMQPError> {
            .failure(.handshakeFailed(endpoint: endpoint.redacted, stage: .authenticate, reason: reason))
        }
        let late = failed("no credentials within \(timeout)")
        let task = Task { [provide] in
            do {
                answer.set(.success(try await provide(endpoint)))
            } catch {
                answer.set(
                    .failure(
                        .handshakeFailed(
                            endpoint: endpoint.redacted,
                            stage: .authenticate,
                            reason: "no credentials: their provider threw \(type(of: error))"
                        )
                    )
                )
            }
        }
        let timer = SystemSupervisionClock.shared.schedule(after: timeout) { answer.set(late) }
        defer {
            timer.cancel()
            task.cancel()
        }
        guard let result = await answer.wait() else {
            throw .cancelled(operation: "connecting to \(endpoint.redacted)")
        }
        let credentials = try result.get()
        guard !credentials.username.utf8.contains(0), !credentials.password.utf8.contains(0) else {
            return try failed("the credentials contain NUL").get()
        }
        return credentials
    }
}
