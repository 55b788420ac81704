import NIOSSL
import Synchronization

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#elseif canImport(Musl)
import Musl
#endif
// Where the compiler, depending on which files it compiles together, says that `timespec` comes from.
#if os(Linux) && canImport(SwiftOverlayShims)
import SwiftOverlayShims
#endif

/// What attempts to connect have in common: the certificates and keys they were given, read and checked.
///
/// Reading those of the operating system takes some 10 ms of processor time, which a pool that cannot connect would spend on each
/// attempt. So they are kept for as long as the files are what they were. Never more than a few: one is needed for each set of
/// settings that the endpoints of a pool have.
final class TLSContextCache: Sendable {
    /// What a context is made of.
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

    /// The one used last is the last.
    private let entries = Mutex<[Entry]>([])
    private let minimumAge: Duration

    /// - Parameter minimumAge: how long ago a file must have changed for another change to be noticed: file systems count in steps.
    init(minimumAge: Duration = .seconds(2)) {
        self.minimumAge = minimumAge
    }

    /// How many contexts are kept.
    var count: Int { entries.withLock { $0.count } }

    /// The context for these ingredients: the one made before, or a new one if there is none or a file has changed.
    ///
    /// Looks at the files, and reads them if it must: not for an event loop.
    func context(
        for ingredients: Ingredients,
        make: () throws(TLSFailure) -> NIOSSLContext
    ) throws(TLSFailure) -> NIOSSLContext {
        let paths = ingredients.paths
        let files = paths.map(FileState.init)
        if let context = take(ingredients, files) { return context }
        let context = try make()
        // Not if one was about to change: what was read may be older or younger than what was looked at.
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
            // Where NIOSSL looks for them on Linux; elsewhere the operating system is asked at each handshake.
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

/// By what a file that has changed is known.
private struct FileState: Equatable {
    private var device: UInt64 = 0
    private var inode: UInt64 = 0
    private var size: Int64 = 0
    /// In nanoseconds, of its content and of all else about it.
    private var modified: Int64 = 0
    private var changed: Int64 = 0

    init(_ path: String) {
        var status = stat()
        // A file that is not there is known by that.
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

    /// How long ago it changed last.
    var age: Duration {
        var now = timespec()
        clock_gettime(CLOCK_REALTIME, &now)
        return .nanoseconds(Self.nanoseconds(now) - max(modified, changed))
    }

    private static func nanoseconds(_ time: timespec) -> Int64 {
        Int64(time.tv_sec) &* 1_000_000_000 &+ Int64(time.tv_nsec)
    }
}
