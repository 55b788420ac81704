import NIOCore
import NIOSSL

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif

extension TLSFailure {
    /// The meaning of an error of NIOSSL during or right after the handshake; `nil` when it is not one of NIOSSL's.
    ///
    /// - Parameters:
    ///   - host: The name or address that the certificate should be for.
    ///   - certificate: The peer's certificate, if it arrived.
    ///   - hasClientCertificate: Whether this side had a certificate to present.
    init?(_ error: any Error, host: String, certificate: NIOSSLCertificate?, hasClientCertificate: Bool) {
        if let error = error as? NIOSSLExtraError {
            guard error == .failedToValidateHostname || error == .serverHostnameImpossibleToMatch else {
                self = .handshakeFailed(reason: error.description)
                return
            }
            self = .wrongHost(expected: host, certificate: describe(certificate))
            return
        }
        guard let reason = reason(of: error) else { return nil }
        switch reason {
        case "CERTIFICATE_VERIFY_FAILED": self.init(untrusted: certificate)
        case "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST", "UNEXPECTED_MESSAGE",
            "UNEXPECTED_RECORD", "EXCESSIVE_MESSAGE_SIZE", "ENCRYPTED_LENGTH_TOO_LONG":
            self = .notTLS
        case "TLSV1_ALERT_CERTIFICATE_REQUIRED", "TLSV1_CERTIFICATE_REQUIRED":
            self = .clientCertificateMissing
        case "SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_INSUFFICIENT_SECURITY",
            "UNSUPPORTED_PROTOCOL", "NO_CIPHERS_AVAILABLE", "NO_SHARED_CIPHER", "WRONG_CIPHER_RETURNED":
            self = .nothingInCommon(reason: reason)
        case "SSLV3_ALERT_BAD_CERTIFICATE", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "SSLV3_ALERT_CERTIFICATE_REVOKED",
            "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN", "TLSV1_ALERT_UNKNOWN_CA",
            "TLSV1_ALERT_ACCESS_DENIED", "TLSV1_ALERT_DECRYPT_ERROR", "TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE":
            self = hasClientCertificate ? .clientCertificateRefused(reason: reason) : .handshakeFailed(reason: reason)
        case "EOF during handshake": self = .endedInHandshake(reason: reason)
        default: self = .handshakeFailed(reason: reason)
        }
    }

    /// Why the certificate is not trusted. BoringSSL only reports that it is not.
    private init(untrusted certificate: NIOSSLCertificate?) {
        let now = time(nil)
        let text = describe(certificate)
        switch certificate {
        case let certificate? where certificate.notValidAfter < now: self = .expired(certificate: text)
        case let certificate? where certificate.notValidBefore > now: self = .notYetValid(certificate: text)
        default: self = .unknownAuthority(certificate: text)
        }
    }
}

/// The peer's text, printable and of bounded length.
private func describe(_ certificate: NIOSSLCertificate?) -> String {
    guard let certificate else { return "no certificate" }
    let printable = certificate.description.unicodeScalars.map { (32...126).contains($0.value) ? Character($0) : "?" }
    return String(printable.prefix(400))
}

/// BoringSSL's name of the error; `nil` if it is not a TLS error.
private func reason(of error: any Error) -> String? {
    switch error {
    case NIOSSLError.handshakeFailed(let error): reason(of: error)
    case NIOSSLError.shutdownFailed(let error): reason(of: error)
    case BoringSSLError.sslError(let stack), BoringSSLError.unknownError(let stack): reason(of: stack)
    case let error as BoringSSLError: "\(error)"
    case let error as NIOSSLError where error != .uncleanShutdown: "\(error)"
    default: nil
    }
}

/// "Error: 268436502 error:10000416:SSL routines:OPENSSL_internal:SSLV3_ALERT_CERTIFICATE_UNKNOWN at FILE:LINE"
private func reason(of stack: NIOBoringSSLErrorStack) -> String {
    guard let text = stack.first?.description else { return "unknown" }
    guard let start = text.firstRange(of: "OPENSSL_internal:")?.upperBound else {
        return text.replacing("Error:", with: "").trimmed
    }
    return String(text[start...].prefix { $0 != " " })
}

extension String {
    fileprivate var trimmed: String {
        String(drop { $0 == " " }.reversed().drop { $0 == " " }.reversed())
    }
}
