import Foundation
import Logging
import NIOSSL
import Testing

@testable import AMQPPool

@Suite("Certificates and keys that were read")
struct TLSContextCacheTests {
    /// Makes a context, and counts.
    private final class Maker {
        var made = 0

        func make() throws(TLSFailure) -> NIOSSLContext {
            made += 1
            do {
                return try NIOSSLContext(configuration: .makeClientConfiguration())
            } catch {
                throw .invalidSettings(reason: "\(error)")
            }
        }
    }

    private func context(
        _ cache: TLSContextCache,
        _ settings: TLSSettings,
        _ maker: Maker
    ) throws -> NIOSSLContext {
        try cache.context(for: TLSContextCache.Ingredients(settings)) { () throws(TLSFailure) in try maker.make() }
    }

    /// A file that lives as long as the test.
    private func withFile(_ body: (String) throws -> Void) throws {
        let path = NSTemporaryDirectory() + "authority-\(UUID()).pem"
        try Data("one".utf8).write(to: URL(fileURLWithPath: path))
        defer { try? FileManager.default.removeItem(atPath: path) }
        try body(path)
    }

    @Test(
        "They are kept while the files are what they were, and read anew when one has changed, is replaced, or is gone"
    )
    func files() throws {
        try withFile { path in
            let cache = TLSContextCache(minimumAge: .zero)
            let maker = Maker()
            var settings = TLSSettings()
            settings.authorities = .file(path)
            let first = try context(cache, settings, maker)
            #expect(try context(cache, settings, maker) === first)
            try Data("two and more".utf8).write(to: URL(fileURLWithPath: path))
            let second = try context(cache, settings, maker)
            #expect(second !== first)
            #expect(try context(cache, settings, maker) === second)
            let other = path + ".new"
            try Data("two and more".utf8).write(to: URL(fileURLWithPath: other))
            #expect(rename(other, path) == 0)
            let third = try context(cache, settings, maker)
            #expect(third !== second)
            try FileManager.default.removeItem(atPath: path)
            #expect(try context(cache, settings, maker) !== third)
            #expect(maker.made == 4)
            #expect(cache.count == 1)
        }
    }

    @Test("A file that has changed a moment ago is read again: another change might look the same")
    func justChanged() throws {
        try withFile { path in
            let cache = TLSContextCache(minimumAge: .seconds(3600))
            let maker = Maker()
            var settings = TLSSettings()
            settings.clientCertificate = .files(certificate: path, key: path)
            settings.authorities = .pem("-")
            _ = try context(cache, settings, maker)
            _ = try context(cache, settings, maker)
            #expect(maker.made == 2)
            #expect(cache.count == 0)
        }
    }

    @Test("Other settings have others, and no more than a few are kept: those that were used last")
    func bounded() throws {
        let cache = TLSContextCache()
        let maker = Maker()
        var settings = TLSSettings()
        let all = try (0..<TLSContextCache.limit).map { number in
            settings.authorities = .pem("\(number)")
            return try context(cache, settings, maker)
        }
        settings.authorities = .pem("0")
        #expect(try context(cache, settings, maker) === all[0])
        settings.verification = .insecureAnyHost
        #expect(try context(cache, settings, maker) !== all[0])
        #expect(cache.count == TLSContextCache.limit)
        settings.verification = .full
        #expect(try context(cache, settings, maker) === all[0])
        settings.authorities = .pem("1")
        #expect(try context(cache, settings, maker) !== all[1])
        #expect(maker.made == TLSContextCache.limit + 2)
    }

    @Test("What cannot be used is not kept, and its reason is told each time")
    func failure() {
        let cache = TLSContextCache(minimumAge: .zero)
        var settings = TLSSettings()
        settings.authorities = .file("/nowhere/authority.pem")
        for _ in 0..<2 {
            #expect(throws: TLSFailure.self) {
                try cache.context(for: TLSContextCache.Ingredients(settings)) { () throws(TLSFailure) in
                    throw .unreadableFile(path: "/nowhere/authority.pem", reason: "no such file or directory")
                }
            }
        }
        #expect(cache.count == 0)
    }

    @Test("All attempts of one configuration share them")
    func shared() async throws {
        let settings = TLSSettings()
        var contexts: [NIOSSLContext] = []
        for host in ["localhost", "127.0.0.1"] {
            let endpoint = try Endpoint(url: "amqps://\(host)")
            let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
            let session = try await TLSSession.make(for: endpoint, settings, timeout: .seconds(60), logger: logger)
            contexts.append(session.context)
        }
        #expect(contexts[0] === contexts[1])
        var copy = settings
        copy.minimumVersion = .tls13
        #expect(copy.contexts === settings.contexts)
    }
}
