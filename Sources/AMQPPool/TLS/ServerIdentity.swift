import NIOSSL

/// The verification of a certificate's host (RFC 6125, section 6), strictly by name.
///
/// NIOSSL also accepts a certificate for the *address* that was connected to, whatever name was requested. An attacker who controls the DNS
/// answer for the name would then only need a certificate for his own address, which authorities issue to anybody.
enum ServerIdentity {
    /// Whether the certificate, which NIOSSL has accepted, is for the name.
    static func isFor(_ name: String, _ certificate: NIOSSLCertificate) -> Bool {
        // NIOSSL marks this as internal, but has no other way to read the names.
        let names = certificate._subjectAlternativeNames()
        // Without any, NIOSSL has compared the common name, by name only.
        return names.isEmpty
            || names.contains { $0.nameType == .dnsName && covers(pattern: Array($0.contents), name: name) }
    }

    /// Whether a name of a certificate matches a host name: exactly, or with `*` as its whole first label. The comparison ignores the case
    /// of ASCII letters.
    static func covers(pattern: [UInt8], name: String) -> Bool {
        let pattern = labels(pattern)
        let name = labels(Array(name.utf8))
        guard pattern.count == name.count, !name.isEmpty, !name.contains([]) else { return false }
        guard pattern.first == [UInt8(ascii: "*")] else { return pattern == name }
        // A wildcard must not cover a top-level domain.
        return pattern.count > 2 && pattern.dropFirst() == name.dropFirst()
    }

    private static func labels(_ name: [UInt8]) -> [[UInt8]] {
        let name = name.last == UInt8(ascii: ".") ? name.dropLast() : name[...]
        return name.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false).map { label in
            label.map { (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains($0) ? $0 | 0x20 : $0 }
        }
    }
}
