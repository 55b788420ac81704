//! TLS: verification and client certificates.

import AMQPPool

// snippet.uri
let byURI: Endpoint = """
    amqps://shop@rabbit.internal?cacertfile=/etc/shop/ca.pem&certfile=/etc/shop/client.pem&keyfile=/etc/shop/client.key
    """
// snippet.end

// snippet.settings
var configuration = PoolConfiguration(endpoints: ["amqps://rabbit.internal?auth_mechanism=external"])
configuration.connection.tls.authorities = .file("/etc/shop/ca.pem")
configuration.connection.tls.clientCertificate = .files(
    certificate: "/etc/shop/client.pem",
    key: "/etc/shop/client.key"
)
configuration.connection.tls.minimumVersion = .tls13
// snippet.end

// snippet.failure
func explain(_ error: AMQPError) -> String {
    guard case .tlsFailed(let endpoint, let failure) = error.cause else { return "\(error)" }
    switch failure {
    case .expired, .notYetValid: return "renew the certificate of \(endpoint)"
    case .wrongHost(let expected, _): return "the certificate must be for \(expected)"
    case .unknownAuthority: return "is cacertfile the authority of \(endpoint)?"
    case .clientCertificateMissing, .clientCertificateRefused: return "the broker wants another client certificate"
    default: return "\(failure)"
    }
}
// snippet.end

// snippet.hide
print(byURI, configuration.endpoints)
// snippet.show
