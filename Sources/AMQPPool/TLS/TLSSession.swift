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
// Where the compiler, depending on which files it compiles together, says that `stat` comes from.
#if os(Linux) && canImport(SwiftOverlayShims)
import SwiftOverlayShims
#endif

/// What one attempt to connect needs for TLS: made from the settings and files of that moment.
struct TLSSession: Sendable {
    let context: NIOSSLContext
    /// The name that is sent, and that the certificate must have; nil for an address, which is checked against the certificate
    /// but cannot be sent (RFC 6066, section 3).
    let serverName: String?
    /// The same, if the certificate must have it.
    let nameToVerify: String?
    /// What the certificate must be for, to be named in an error.
    let host: String
    let hasClientCertificate: Bool

    /// Looks at the files, and reads them, on a thread of their own.
    ///
    /// - Throws: ``AMQPError/tlsFailed(endpoint:_:)``, ``AMQPError/cancelled(operation:)``.
    static func make(
        for endpoint: Endpoint,
        _ settings: TLSSettings,
        timeout: Duration,
        logger: Logger
    ) async throws(AMQPError) -> TLSSession {
        let settings = settings.with(endpoint.security)
        if settings.verification != .full {
            logger.warning(
                "insecure: whoever is in the middle can pass for the broker",
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

    /// Looks at files, and reads them if they have changed.
    init(host: String, _ settings: TLSSettings) throws(TLSFailure) {
        let isAddress = Self.isAddress(host)
        if let name = settings.serverName, Self.isAddress(name) || !(1...255).contains(name.utf8.count) {
            throw .invalidServerName(name)
        }
        serverName = settings.serverName ?? (isAddress ? nil : host)
        nameToVerify = settings.verification == .full ? serverName : nil
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

    /// Whether the certificate is for the name that it must have, if it must have one. One that cannot be read is not.
    func accepts(_ certificate: NIOSSLCertificate?) -> Bool {
        guard let name = nameToVerify else { return true }
        return certificate.map { ServerIdentity.isFor(name, $0) } ?? false
    }

    /// The handler to put in front of all others.
    func makeHandler() throws -> NIOSSLClientHandler {
        try NIOSSLClientHandler(context: context, serverHostname: serverName)
    }

    private static func isAddress(_ host: String) -> Bool {
        // A zone is none of the certificate's business.
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
            // A folder is looked into when a certificate needs it.
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
    /// What to call it in an error: a text may be a key.
    fileprivate var name: String {
        switch self {
        case .file(let path): path
        case .pem: "the text given"
        }
    }

    /// Certificates and keys are small; what is larger is none of them.
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
