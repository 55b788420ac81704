/// Why a connection could not be encrypted. Nothing of AMQP was sent, no credential among it.
///
/// A closed list. Of a certificate its public part is described, as the broker shows it to everybody; no key or passphrase is
/// in any case.
public enum TLSFailure: Error, Sendable, Hashable {
    // MARK: The settings of this side

    /// A file named in the settings or the URI cannot be read.
    case unreadableFile(path: String, reason: String)
    /// There is no certificate in PEM where one should be.
    case noCertificate(source: String)
    /// There is no private key in PEM where one should be, or it is encrypted and the passphrase does not fit.
    case unusableKey(source: String)
    /// The private key does not belong to the certificate.
    case keyDoesNotFitCertificate
    /// The server name is not one that can be asked for: empty, too long, or an address.
    case invalidServerName(String)
    /// The settings are refused for another reason.
    case invalidSettings(reason: String)

    // MARK: The broker's certificate

    /// The broker's certificate is for other hosts than this one.
    case wrongHost(expected: String, certificate: String)
    /// The broker's certificate is not valid any more.
    case expired(certificate: String)
    /// The broker's certificate is not valid yet, or the clock of this machine is wrong.
    case notYetValid(certificate: String)
    /// No authority that is believed has signed the broker's certificate, or one on the way to it has expired.
    case unknownAuthority(certificate: String)

    // MARK: The certificate of this side

    /// The broker demands a certificate, and this side has none.
    case clientCertificateMissing
    /// The broker does not accept the certificate of this side.
    case clientCertificateRefused(reason: String)

    // MARK: The peer

    /// The peer does not speak TLS: perhaps the port is the one without encryption.
    case notTLS
    /// The two sides have no version or no cipher of TLS in common.
    case nothingInCommon(reason: String)
    /// The peer ended the connection during the handshake: perhaps it does not speak TLS, or does not like the certificate it was
    /// shown.
    case endedInHandshake(reason: String)
    /// The peer ended the connection after the handshake, and before a word of AMQP. With TLS 1.3 a broker does so that demands
    /// a certificate it was not shown.
    case endedAfterHandshake(reason: String)
    /// The peer did not complete the handshake in time.
    case timedOut(after: Duration)
    /// The handshake failed for another reason.
    case handshakeFailed(reason: String)
}

extension TLSFailure: CustomStringConvertible {
    /// What is wrong, and what to do about it where that is clear.
    public var description: String {
        switch self {
        case .unreadableFile(let path, let reason): "cannot read \(path): \(reason)"
        case .noCertificate(let source): "there is no certificate in PEM in \(source)"
        case .unusableKey(let source):
            "there is no private key in PEM in \(source), or it is encrypted and the passphrase does not fit"
        case .keyDoesNotFitCertificate: "the private key does not belong to the client certificate"
        case .invalidServerName(let name): "\"\(name)\" is not a server name: it must be a host name, not an address"
        case .invalidSettings(let reason): "the TLS settings are refused: \(reason)"
        case .wrongHost(let expected, let certificate):
            "the broker's certificate is not for \(expected): \(certificate)"
        case .expired(let certificate): "the broker's certificate has expired: \(certificate)"
        case .notYetValid(let certificate):
            "the broker's certificate is not valid yet, or the clock here is wrong: \(certificate)"
        case .unknownAuthority(let certificate):
            "no authority that is believed has signed the broker's certificate: \(certificate)"
        case .clientCertificateMissing: "the broker demands a client certificate, and none is configured"
        case .clientCertificateRefused(let reason): "the broker refused the client certificate: \(reason)"
        case .notTLS: "the peer does not speak TLS; is it the port without encryption?"
        case .nothingInCommon(let reason): "no version or cipher of TLS in common: \(reason)"
        case .endedInHandshake(let reason):
            "the peer ended the connection in the TLS handshake (\(reason)); does it speak TLS on this port?"
        case .endedAfterHandshake(let reason):
            "the peer ended the connection right after the TLS handshake (\(reason)); does it demand a client certificate?"
        case .timedOut(let duration): "the TLS handshake was not completed within \(duration)"
        case .handshakeFailed(let reason): "the TLS handshake failed: \(reason)"
        }
    }
}
