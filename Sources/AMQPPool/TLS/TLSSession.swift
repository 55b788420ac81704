internal import ConcurrencyPrimitives
import Logging
import NIOCore
import NIOPosix
import NIOSSL
import Supervision

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
// Depending on which files are compiled together, the compiler attributes `stat` to this module.
#if os(Linux) && canImport(SwiftOverlayShims)
import SwiftOverlayShims
#endif

/// The TLS state of one connection attempt, created from the current settings and files.
struct TLSSession: Sendable {
    let context: NIOSSLContext
    /// The name that is sent, and that the certificate must have; `nil` for an address, which is compared with the certificate but cannot
    /// be sent (RFC 6066, section 3).
    let serverName: String?
    /// The name that the certificate must have, if that is verified.
    let nameToVerify: String?
    /// What the certificate must be for, for errors.
    let host: String
    let hasClientCertificate: Bool

    /// Checks the files, and reads them if necessary, on a separate thread.
    ///
    /// - Throws: ``AMQPError/tlsFailed(endpoint:_:)``, ``AMQPError/cancelled(operation:)``.
    static func make(
        for endpoint: Endpoint,
        _ settings: TLSSettings,
        timeout: Duration,
        logger: Logger
    ) async throws(AMQPError) -> TLSSession {
        let settings = settings.with(endpoint.security)
        if !settings.verification.comparesHost {
            logger.warning(
                "insecure: an attacker can impersonate the broker",
                metadata: ["endpoint": "\(endpoint.redacted)", "verification": "\(settings.verification)"]
            )
        }
        let answer = OneShot<Result<TLSSession, TLSFailure>>()
        let timer = SystemSupervisionClock.shared.schedule(after: timeout) {
            answer.set(.failure(.invalidSettings(reason: "its files were not read within \(timeout)")))
        }
        defer { timer.cancel() }
        NIOThreadPool.singleton.submit { _ in
            answer.set(Result { () throws(TLSFailure) in try TLSSession(host: endpoint.host, settings) })
        }
        guard let result = await answer.wait() else {
            throw .cancelled(operation: "connecting to \(endpoint.redacted)")
        }
        switch result {
        case .success(let session): return session
        case .failure(let failure): throw .tlsFailed(endpoint: endpoint.redacted, failure)
        }
    }

    /// Checks the files, and reads them if they have changed.
    init(host: String, _ settings: TLSSettings) throws(TLSFailure) {
        let isAddress = Self.isAddress(host)
        if let name = settings.serverName, Self.isAddress(name) || !(1...255).contains(name.utf8.count) {
            throw .invalidServerName(name)
        }
        serverName = settings.serverName ?? (isAddress ? nil : host)
        nameToVerify = settings.verification.comparesHost ? serverName : nil
        self.host = serverName ?? host
        hasClientCertificate = settings.clientCertificate != nil
        context = try settings.contexts.context(for: TLSContextCache.Ingredients(settings)) { () throws(TLSFailure) in
            try Self.makeContext(settings)
        }
    }

    private static func makeContext(_ settings: TLSSettings) throws(TLSFailure) -> NIOSSLContext {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.minimumTLSVersion =
            switch settings.minimumVersion {
            case .tls12: .tlsv12
            case .tls13: .tlsv13
            }
        configuration.certificateVerification =
            switch settings.verification {
            case .full: .fullVerification
            case .insecureAnyHost: .noHostnameVerification
            case .insecureAnyCertificate: .none
            }
        configuration.trustRoots = try trustRoots(settings.authorities)
        if let certificate = settings.clientCertificate {
            configuration.certificateChain = try certificates(certificate.certificate).map { .certificate($0) }
            configuration.privateKey = .privateKey(try key(of: certificate))
        }
        do {
            return try NIOSSLContext(configuration: configuration)
        } catch NIOSSLError.failedToLoadPrivateKey {
            throw .keyDoesNotFitCertificate
        } catch {
            throw .invalidSettings(reason: "\(error)")
        }
    }

    /// Whether the certificate is for the required name, if there is one. False for a certificate that cannot be parsed.
    func accepts(_ certificate: NIOSSLCertificate?) -> Bool {
        guard let name = nameToVerify else { return true }
        return certificate.map { ServerIdentity.isFor(name, $0) } ?? false
    }

    /// The handler to insert before all others.
    func makeHandler() throws -> NIOSSLClientHandler {
        try NIOSSLClientHandler(context: context, serverHostname: serverName)
    }

    private static func isAddress(_ host: String) -> Bool {
        // A certificate does not contain a zone.
        let address = host.split(separator: "%", maxSplits: 1).first.map(String.init) ?? host
        return (try? SocketAddress(ipAddress: address, port: 0)) != nil
    }

    // MARK: Files

    private static func trustRoots(_ authorities: TLSSettings.Authorities) throws(TLSFailure) -> NIOSSLTrustRoots {
        switch authorities {
        case .system: return .default
        case .pem(let text): return .certificates(try certificates(.pem(text)))
        case .file(let path):
            try checkReadable(path)
            // A folder is searched when a certificate is verified.
            return isFolder(path) ? .file(path) : .certificates(try certificates(.file(path)))
        }
    }

    private static func certificates(_ source: ClientCertificate.Source) throws(TLSFailure) -> [NIOSSLCertificate] {
        let text = try source.bytes()
        do {
            return try NIOSSLCertificate.fromPEMBytes(text)
        } catch {
            throw .noCertificate(source: source.name)
        }
    }

    private static func key(of certificate: ClientCertificate) throws(TLSFailure) -> NIOSSLPrivateKey {
        let text = try certificate.key.bytes()
        do {
            return try NIOSSLPrivateKey(bytes: text, format: .pem) { setPassphrase in
                setPassphrase((certificate.passphrase ?? "").utf8)
            }
        } catch {
            throw .unusableKey(source: certificate.key.name)
        }
    }

    fileprivate static func checkReadable(_ path: String) throws(TLSFailure) {
        guard access(path, R_OK) == 0 else { throw .unreadableFile(path: path, reason: systemError(errno)) }
    }

    private static func isFolder(_ path: String) -> Bool {
        var status = stat()
        return stat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
    }
}

extension ClientCertificate.Source {
    /// The name of the source for errors: text may be a key.
    fileprivate var name: String {
        switch self {
        case .file(let path): path
        case .pem: "the text given"
        }
    }

    /// The maximum size of a file: certificates and keys are small.
    private static var limit: Int { 4 << 20 }

    /// Never empty, which NIOSSL does not expect.
    fileprivate func bytes() throws(TLSFailure) -> [UInt8] {
        switch self {
        case .pem(let text):
            return text.isEmpty ? [UInt8(ascii: "\n")] : Array(text.utf8)
        case .file(let path):
            try TLSSession.checkReadable(path)
            guard let file = fopen(path, "rb") else {
                throw .unreadableFile(path: path, reason: systemError(errno))
            }
            defer { fclose(file) }
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65_536)
            while bytes.count < Self.limit {
                let count = fread(&chunk, 1, chunk.count, file)
                guard count > 0 else { break }
                bytes += chunk.prefix(count)
            }
            guard ferror(file) == 0 else { throw .unreadableFile(path: path, reason: systemError(errno)) }
            return bytes.isEmpty ? [UInt8(ascii: "\n")] : bytes
        }
    }
}

private func systemError(_ code: CInt) -> String {
    let text = String(cString: strerror(code))
    return text.prefix(1).lowercased() + text.dropFirst()
}
