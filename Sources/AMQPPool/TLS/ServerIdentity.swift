import NIOSSL

/// Whom a certificate is for (RFC 6125, section 6), as strictly as a name demands.
///
/// NIOSSL also takes a certificate for the *address* that was connected to, whatever name was asked for. Then whoever answers
/// for the name in the DNS with an address of his own needs only a certificate for that address, which authorities give to
/// anybody.
enum ServerIdentity {
    /// Whether the certificate, which NIOSSL has accepted, is for the name.
    static func isFor(_ name: String, _ certificate: NIOSSLCertificate) -> Bool {
        // Named as internal by NIOSSL, which has no other way to ask for them.
        let names = certificate._subjectAlternativeNames()
        // Without any, NIOSSL has compared the common name, with the name alone.
        return names.isEmpty
            || names.contains { $0.nameType == .dnsName && covers(pattern: Array($0.contents), name: name) }
    }

    /// Whether a name of a certificate covers a host's: as it is, or with `*` as its whole first label. Letters of both cases are
    /// equal; what is not ASCII is not.
    static func covers(pattern: [UInt8], name: String) -> Bool {
        let pattern = labels(pattern)
        let name = labels(Array(name.utf8))
        guard pattern.count == name.count, !name.isEmpty, !name.contains([]) else { return false }
        guard pattern.first == [UInt8(ascii: "*")] else { return pattern == name }
        // Not every host of a top-level domain is one's own.
        return pattern.count > 2 && pattern.dropFirst() == name.dropFirst()
    }

    private static func labels(_ name: [UInt8]) -> [[UInt8]] {
        let name = name.last == UInt8(ascii: ".") ? name.dropLast() : name[...]
        return name.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map { label in
            label.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
        }
    }
}
