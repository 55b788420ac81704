/// Why a connection could not be encrypted. Nothing was sent over AMQP, so no credential either.
///
/// A closed enum. Only the public part of a certificate is described, as the broker presents it to everybody; no case contains a key or
/// passphrase.
public enum TLSFailure: Error, Sendable, Hashable {
    // MARK: The client's settings

    /// A file named in the settings or the URI cannot be read.
    case unreadableFile(path: String, reason: String)
    /// There is no PEM certificate where one is expected.
    case noCertificate(source: String)
    /// There is no PEM private key where one is expected, or it is encrypted and the passphrase is wrong.
    case unusableKey(source: String)
    /// The private key does not belong to the certificate.
    case keyDoesNotFitCertificate
    /// The server name is invalid: empty, too long, or an address.
    case invalidServerName(String)
    /// The settings are rejected for another reason.
    case invalidSettings(reason: String)

    // MARK: The broker's certificate

    /// The broker's certificate is for other hosts.
    case wrongHost(expected: String, certificate: String)
    /// The broker's certificate has expired.
    case expired(certificate: String)
    /// The broker's certificate is not valid yet, or the clock of this machine is wrong.
    case notYetValid(certificate: String)
    /// The broker's certificate is not signed by a trusted authority, or an intermediate certificate has expired.
    case unknownAuthority(certificate: String)

    // MARK: The client certificate

    /// The broker requires a client certificate, and there is none.
    case clientCertificateMissing
    /// The broker does not accept the client certificate.
    case clientCertificateRefused(reason: String)

    // MARK: The peer

    /// The peer does not speak TLS: perhaps the port is the unencrypted one.
    case notTLS
    /// The two sides have no TLS version or cipher in common.
    case nothingInCommon(reason: String)
    /// The peer ended the connection during the handshake: perhaps it does not speak TLS, or does not accept the client certificate.
    case endedInHandshake(reason: String)
    /// The peer ended the connection after the handshake, before anything was sent over AMQP. With TLS 1.3 this is how a broker refuses a
    /// missing client certificate.
    case endedAfterHandshake(reason: String)
    /// The peer did not complete the handshake in time.
    case timedOut(after: Duration)
    /// The handshake failed for another reason.
    case handshakeFailed(reason: String)
}

extension TLSFailure: CustomStringConvertible {
    /// What is wrong, and what to do about it if that is clear.
    public var description: String {
        switch self {
        case .unreadableFile(let path, let reason): "cannot read \(path): \(reason)"
        case .noCertificate(let source): "there is no PEM certificate in \(source)"
        case .unusableKey(let source):
            "there is no PEM private key in \(source), or it is encrypted and the passphrase is wrong"
        case .keyDoesNotFitCertificate: "the private key does not belong to the client certificate"
        case .invalidServerName(let name): "\"\(name)\" is not a server name: it must be a host name, not an address"
        case .invalidSettings(let reason): "the TLS settings are invalid: \(reason)"
        case .wrongHost(let expected, let certificate):
            "the broker's certificate is not for \(expected): \(certificate)"
        case .expired(let certificate): "the broker's certificate has expired: \(certificate)"
        case .notYetValid(let certificate):
            "the broker's certificate is not valid yet, or the clock of this machine is wrong: \(certificate)"
        case .unknownAuthority(let certificate):
            "the broker's certificate is not signed by a trusted authority: \(certificate)"
        case .clientCertificateMissing: "the broker requires a client certificate, and none is configured"
        case .clientCertificateRefused(let reason): "the broker refused the client certificate: \(reason)"
        case .notTLS: "the peer does not speak TLS; is it the port without encryption?"
        case .nothingInCommon(let reason): "no TLS version or cipher in common: \(reason)"
        case .endedInHandshake(let reason):
            "the peer ended the connection in the TLS handshake (\(reason)); does it speak TLS on this port?"
        case .endedAfterHandshake(let reason):
            "the peer ended the connection right after the TLS handshake (\(reason)); does it require a client certificate?"
        case .timedOut(let duration): "the TLS handshake was not completed within \(duration)"
        case .handshakeFailed(let reason): "the TLS handshake failed: \(reason)"
        }
    }
}
