import NIOSSL
import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
// Depending on which files are compiled together, the compiler attributes `timespec` to this module.
#if os(Linux) && canImport(SwiftOverlayShims)
import SwiftOverlayShims
#endif

/// A cache of TLS contexts for connection attempts: parsed and validated certificates and keys.
///
/// Reading the operating system's certificates takes some 10 ms of processor time, which a pool that cannot connect would spend on each
/// attempt. A context is therefore kept while its files are unchanged. There are only a few: one for each set of settings that the
/// endpoints of a pool have.
final class TLSContextCache: Sendable {
    /// What a context is created from.
    struct Ingredients: Hashable {
        var authorities: TLSSettings.Authorities
        var verification: TLSSettings.Verification
        var minimumVersion: TLSSettings.Version
        var certificate: ClientCertificate.Source?
        var key: ClientCertificate.Source?
        var passphrase: String?

        init(_ settings: TLSSettings) {
            authorities = settings.authorities
            verification = settings.verification
            minimumVersion = settings.minimumVersion
            certificate = settings.clientCertificate?.certificate
            key = settings.clientCertificate?.key
            passphrase = settings.clientCertificate?.passphrase
        }
    }

    private struct Entry {
        let ingredients: Ingredients
        let files: [FileState]
        let context: NIOSSLContext
    }

    static let limit = 8

    /// The most recently used entry is the last.
    private let entries = Mutex<[Entry]>([])
    private let minimumAge: Duration

    /// - Parameter minimumAge: The minimum age of a file's last change before a context is cached: file systems have a limited time
    ///   resolution, so a further change could go unnoticed.
    init(minimumAge: Duration = .seconds(2)) {
        self.minimumAge = minimumAge
    }

    /// The number of cached contexts.
    var count: Int { entries.withLock { $0.count } }

    /// The context for these ingredients: the cached one, or a new one if there is none or a file has changed.
    ///
    /// Checks files, and reads them if necessary: must not be called on an event loop.
    func context(
        for ingredients: Ingredients,
        make: () throws(TLSFailure) -> NIOSSLContext
    ) throws(TLSFailure) -> NIOSSLContext {
        let paths = ingredients.paths
        let files = paths.map(FileState.init)
        if let context = take(ingredients, files) { return context }
        let context = try make()
        // Not cached if a file changed recently: its content may not match the checked state.
        if files.allSatisfy({ $0.age >= minimumAge }), paths.map(FileState.init) == files {
            entries.withLock { entries in
                entries.removeAll { $0.ingredients == ingredients }
                if entries.count >= Self.limit { entries.removeFirst() }
                entries.append(Entry(ingredients: ingredients, files: files, context: context))
            }
        }
        return context
    }

    private func take(_ ingredients: Ingredients, _ files: [FileState]) -> NIOSSLContext? {
        entries.withLock { entries in
            guard let index = entries.firstIndex(where: { $0.ingredients == ingredients }) else { return nil }
            let entry = entries.remove(at: index)
            guard entry.files == files else { return nil }
            entries.append(entry)
            return entry.context
        }
    }
}

extension TLSContextCache.Ingredients {
    /// The files that are read.
    fileprivate var paths: [String] {
        var paths: [String] =
            switch authorities {
            // The locations in which NIOSSL looks on Linux; elsewhere the operating system is asked at each handshake.
            case .system:
                [
                    "/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/certs",
                    "/etc/pki/tls/certs",
                ]
            case .file(let path): [path]
            case .pem: []
            }
        for case .file(let path)? in [certificate, key] { paths.append(path) }
        return paths
    }
}

/// What identifies the version of a file.
private struct FileState: Equatable {
    private var device: UInt64 = 0
    private var inode: UInt64 = 0
    private var size: Int64 = 0
    /// In nanoseconds, of the content and of the metadata.
    private var modified: Int64 = 0
    private var changed: Int64 = 0

    init(_ path: String) {
        var status = stat()
        // A missing file is identified by all zeros.
        guard stat(path, &status) == 0 else { return }
        device = UInt64(truncatingIfNeeded: status.st_dev)
        inode = UInt64(truncatingIfNeeded: status.st_ino)
        size = Int64(status.st_size)
        #if canImport(Darwin)
        modified = Self.nanoseconds(status.st_mtimespec)
        changed = Self.nanoseconds(status.st_ctimespec)
        #else
        modified = Self.nanoseconds(status.st_mtim)
        changed = Self.nanoseconds(status.st_ctim)
        #endif
    }

    /// The time since its last change.
    var age: Duration {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return .nanoseconds(Self.nanoseconds(now) - max(modified, changed))
    }

    private static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}
