internal import ConcurrencyPrimitives
import Supervision

/// A user name and a secret. The password is in no description, mirror or error.
public struct Credentials: Sendable {
    /// The user name.
    public var username: String
    /// How long they are valid, counted from when the ``CredentialsProvider`` returned them; `nil` if they do not expire.
    public var validFor: Duration?
    let password: String

    /// Creates credentials from a user name and a password, or with OAuth 2 from any name and the token.
    public init(username: String, password: String) {
        self.username = username
        self.password = password
    }

    /// Creates credentials that expire, for example an OAuth 2 token.
    ///
    /// When four fifths of the time have passed, a pool calls its ``CredentialsProvider`` again, and sends the new secret to the broker on
    /// the open connection (`connection.update-secret`). If that has not succeeded when they expire, it closes the connection and connects
    /// again.
    ///
    /// - Parameters:
    ///   - username: With OAuth 2, any name.
    ///   - password: The token.
    ///   - validFor: How long they are valid from now: the `expires_in` of the authorization server.
    public init(username: String, password: String, validFor: Duration) {
        self.username = username
        self.password = password
        self.validFor = validFor
    }
}

extension Credentials: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// The user name.
    public var description: String { username }

    /// The user name.
    public var debugDescription: String { username }

    /// The user name.
    public var customMirror: Mirror { Mirror(self, children: ["username": username]) }
}

/// Provides credentials that are not in the URI, or that change: called at each attempt to connect, and so after each loss of a connection;
/// by a pool also before they expire.
///
///     configuration.credentials = CredentialsProvider { endpoint in
///         Credentials(username: "shop", password: try await vault.token(for: endpoint.host))
///     }
///
/// Its time limit is ``ConnectionConfiguration/connectTimeout``; after that it is cancelled and not waited for. When it throws, the attempt
/// fails; only the type of its error is shown.
public struct CredentialsProvider: Sendable {
    private let provide: @Sendable (Endpoint) async throws -> Credentials

    /// Creates a provider that runs this closure.
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
