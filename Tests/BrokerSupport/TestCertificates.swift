import Foundation

/// Certificates made for one test, in a temporary folder: an authority, and what it has signed.
///
///     try await TestCertificates.with { certificates in
///         let server = try certificates.make("server", names: ["DNS:localhost", "IP:127.0.0.1"])
///     }
///
/// Made with the command line tool `openssl`, which `scripts/bootstrap` installs.
public struct TestCertificates: Sendable {
    /// A certificate and its key, in PEM files.
    public struct Pair: Sendable {
        /// The path of the certificate.
        public let certificate: String
        /// The path of its private key.
        public let key: String
    }

    /// When a certificate is valid.
    public enum Validity: Sendable {
        case now, expired, notYet

        fileprivate var dates: [String] {
            switch self {
            case .now: ["-startdate", "20200101000000Z", "-enddate", "20990101000000Z"]
            case .expired: ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
            case .notYet: ["-startdate", "20980101000000Z", "-enddate", "20990101000000Z"]
            }
        }
    }

    /// What could not be made, and what `openssl` wrote about it.
    public struct Failure: Error, CustomStringConvertible {
        /// Which command, and its words.
        public let description: String
    }

    private let folder: String

    /// The path of the authority's certificate.
    public var authority: String { "\(folder)/authority.pem" }

    /// Runs the body with an authority of its own; nothing is left of it afterwards.
    public static func with<Result: Sendable>(
        isolation: isolated (any Actor)? = #isolation,
        _ body: (TestCertificates) async throws -> Result
    ) async throws -> Result {
        let folder = FileManager.default.temporaryDirectory.appending(path: "certificates-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(
            atPath: folder,
            withIntermediateDirectories: false,
            attributes: [.posixPermissions: 0o700]
        )
        defer { try? FileManager.default.removeItem(atPath: folder) }
        let certificates = TestCertificates(folder: folder)
        try certificates.prepare()
        return try await body(certificates)
    }

    private func prepare() throws {
        try write(
            """
            [ca]
            default_ca = authority
            [authority]
            database = \(folder)/database
            serial = \(folder)/serial
            new_certs_dir = \(folder)
            certificate = \(authority)
            private_key = \(folder)/authority.key
            default_md = sha256
            policy = anything
            unique_subject = no
            copy_extensions = none
            [anything]
            commonName = supplied
            [req]
            distinguished_name = name
            prompt = no
            [name]
            commonName = authority
            [authority_extensions]
            basicConstraints = critical, CA:TRUE
            keyUsage = critical, keyCertSign, cRLSign
            subjectKeyIdentifier = hash
            """,
            to: "configuration"
        )
        try write("", to: "database")
        try write("1000\n", to: "serial")
        try makeKey("authority")
        try openssl([
            "req", "-new", "-x509", "-config", "\(folder)/configuration", "-key", "\(folder)/authority.key", "-out",
            authority, "-days", "3650", "-sha256", "-extensions", "authority_extensions",
        ])
    }

    /// A certificate that the authority has signed.
    ///
    /// - Parameters:
    ///   - name: its common name, and what its files are called.
    ///   - names: its subject alternative names, as `DNS:localhost`.
    ///   - validity: when it is valid.
    public func make(_ name: String, names: [String] = [], validity: Validity = .now) throws -> Pair {
        let pair = Pair(certificate: "\(folder)/\(name).pem", key: "\(folder)/\(name).key")
        try makeKey(name)
        try openssl([
            "req", "-new", "-config", "\(folder)/configuration", "-key", pair.key, "-subj", "/CN=\(name)", "-out",
            "\(folder)/\(name).csr",
        ])
        let alternatives = names.isEmpty ? "" : "subjectAltName = \(names.joined(separator: ","))\n"
        try write(
            "basicConstraints = CA:FALSE\nextendedKeyUsage = serverAuth, clientAuth\n" + alternatives,
            to: "\(name).extensions"
        )
        try openssl(
            [
                "ca", "-batch", "-notext", "-config", "\(folder)/configuration", "-in", "\(folder)/\(name).csr",
                "-out", pair.certificate, "-extfile", "\(folder)/\(name).extensions",
            ] + validity.dates
        )
        return pair
    }

    /// The same key, encrypted with a passphrase.
    public func encrypt(_ pair: Pair, passphrase: String) throws -> Pair {
        let key = pair.key + ".encrypted"
        try openssl([
            "pkcs8", "-topk8", "-in", pair.key, "-out", key, "-v2", "aes-256-cbc", "-passout", "pass:\(passphrase)",
        ])
        return Pair(certificate: pair.certificate, key: key)
    }

    /// Writes a file, and returns its path.
    @discardableResult
    public func write(_ text: String, to name: String) throws -> String {
        let path = "\(folder)/\(name)"
        try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        return path
    }

    private func makeKey(_ name: String) throws {
        try openssl(["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "\(folder)/\(name).key"])
    }

    private func openssl(_ arguments: [String]) throws {
        _ = try BrokerSupport.openssl(arguments)
    }
}

/// Runs the command line tool `openssl`, and returns what it wrote.
func openssl(_ arguments: [String]) throws -> Data {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = ["openssl"] + arguments
    let (output, errors) = (Pipe(), Pipe())
    process.standardOutput = output
    process.standardError = errors
    process.standardInput = FileHandle.nullDevice
    try process.run()
    let said = output.fileHandleForReading.readDataToEndOfFile()
    // A few lines, which a pipe holds.
    let complaint = errors.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
        throw TestCertificates.Failure(
            description: "openssl \(arguments.first ?? ""): \(String(decoding: complaint, as: UTF8.self))"
        )
    }
    return said
}
