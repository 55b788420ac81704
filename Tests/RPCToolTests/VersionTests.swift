#if os(Linux)
import AMQPPool
import BrokerSupport
import Foundation
import LocalBroker
import Testing

@Suite("The version")
struct VersionTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    @Test("is a semantic one, and CHANGELOG.md tells of it")
    func changelog() throws {
        #expect(LibraryVersion.text.wholeMatch(of: #/\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?/#) != nil)
        let changelog = try String(contentsOf: Self.root.appendingPathComponent("CHANGELOG.md"), encoding: .utf8)
        #expect(changelog.contains("## [\(LibraryVersion.text)]"))
    }

    @Test("is the one that the README and the page about versions name")
    func documents() throws {
        for (page, text) in [
            ("README.md", "swift-supervision.git\", from: \"\(LibraryVersion.text)\""),
            ("README.md", "Version \(LibraryVersion.text)"),
            ("docs/compatibility.md", "version \(LibraryVersion.text)"),
        ] {
            let document = try String(contentsOf: Self.root.appendingPathComponent(page), encoding: .utf8)
            #expect(document.contains(text), "\(page) does not say \(text)")
        }
    }

    @Test("is printed by rpc --version")
    func printed() async throws {
        let result = try await rpc("--version")
        #expect(result.output == "\(LibraryVersion.text)\n")
    }

    @Test("is in the properties of each connection, where an operator sees it")
    func clientProperties() async throws {
        try await TestBroker.withVirtualHost { broker, url, virtualHost in
            let connection = try await AMQPConnection.open(try Endpoint(url: url))
            let properties = try await broker.connections(virtualHost: virtualHost).map(\.clientProperties)
            #expect(properties.map { $0["version"] } == [.string(LibraryVersion.text)])
            #expect(properties.map { $0["product"] } == [.string("swift-supervision")])
            await connection.close()
        }
    }
}
#endif
