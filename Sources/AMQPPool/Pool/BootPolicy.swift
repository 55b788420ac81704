/// What a pool does when a broker refuses it for good before it was ever connected: the credentials, the virtual host, the certificate.
public enum BootPolicy: Sendable, Hashable {
    /// It keeps trying, and the log says at level `error` what is refused. The default.
    ///
    /// What a broker refuses now it may accept in a moment, without anybody having made a mistake here: one that is starting does not
    /// know its users and virtual hosts before its definitions are imported, and one whose authentication backend is down refuses
    /// everybody. A process that ended for it would be started again by whatever runs it, and again, each time more slowly.
    case keepTrying
    /// The pool ends, and `run()` throws the refusal (``AMQPError/authenticationFailed(endpoint:text:)``,
    /// ``AMQPError/virtualHostRefused(endpoint:virtualHost:code:text:)``, ``AMQPError/tlsFailed(endpoint:_:)``,
    /// ``AMQPError/invalidEndpoint(_:)``), as soon as each endpoint was tried, none could be connected to, and one refused: for deployments
    /// that should fail where a person looks. Once it was connected, it keeps trying.
    case failWhenRefused
}
