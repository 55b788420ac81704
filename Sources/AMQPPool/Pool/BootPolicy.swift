/// What a pool does when a broker permanently refuses it before the first connection: because of the credentials, the virtual host, or the
/// certificate.
public enum BootPolicy: Sendable, Hashable {
    /// It keeps trying, and logs the refusal at level `error`. The default.
    ///
    /// A broker may accept a moment later what it refuses now, without a configuration error: a starting broker does not know its users and
    /// virtual hosts before its definitions are imported, and one whose authentication backend is down refuses everybody. A process that
    /// ended for this would be restarted again and again, each time after a longer delay.
    case keepTrying
    /// The pool ends, and `run()` throws the refusal (``AMQPError/authenticationFailed(endpoint:text:)``,
    /// ``AMQPError/virtualHostRefused(endpoint:virtualHost:code:text:)``, ``AMQPError/tlsFailed(endpoint:_:)``,
    /// ``AMQPError/invalidEndpoint(_:)``), as soon as each endpoint has been tried, none could be connected to, and one refused: for
    /// deployments that should fail visibly. After the first successful connection it keeps trying.
    case failWhenRefused
}
