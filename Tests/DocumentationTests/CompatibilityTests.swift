import Foundation
import TestTurns
import Testing

@Suite("docs/compatibility.md", .besidesThePool)
struct CompatibilityTests {
    @Test("names only tests that exist, and one at least for each row of what RabbitMQ 4 brings")
    func testsExist() throws {
        let page = try String(contentsOf: Samples.root.appending(path: "docs/compatibility.md"), encoding: .utf8)
        let part = try #require(page.split(separator: "What RabbitMQ 4 brings").last)
        let rows = part.split(separator: "\n").drop { !$0.hasPrefix("|---") }.dropFirst().prefix { $0.hasPrefix("| ") }
        #expect(rows.count >= 9)
        // A name stands right after `@Test(`, on the same line or on one of its own.
        let declared = try Samples.files(in: ["Tests"], extension: "swift")
            .map { try String(contentsOf: $0, encoding: .utf8).replacing(#/@Test\(\s+"/#, with: "@Test(\"") }
            .joined()
        for row in rows {
            let cells = row.split(separator: "|")
            let names = (cells.last ?? "").split(separator: "`", omittingEmptySubsequences: false).enumerated()
                .filter { $0.offset % 2 == 1 }.map { String($0.element) }
            #expect(!names.isEmpty, "\(row)")
            for name in names { #expect(declared.contains("@Test(\"\(name)\""), "\(name)") }
        }
    }
}
