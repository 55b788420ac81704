import Foundation
import TestTurns
import Testing

@Suite("docs/reliability.md", .besidesThePool)
struct ReliabilityTableTests {
    private static let root = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// The rows of the table, by their numbers.
    private static func rows() throws -> [(number: Int, cells: [String])] {
        let page = try String(contentsOf: root.appendingPathComponent("docs/reliability.md"), encoding: .utf8)
        return page.split(separator: "\n").compactMap { line in
            let cells = line.split(separator: "|").map { $0.trimmingCharacters(in: .whitespaces) }
            guard let first = cells.first, first.hasPrefix("R"), let number = Int(first.dropFirst()) else { return nil }
            return (number, Array(cells.dropFirst()))
        }
    }

    /// What stands between the backticks of a row's last cell.
    private static func namedTests(in cell: String) -> [String] {
        cell.split(separator: "`", omittingEmptySubsequences: false).enumerated()
            .filter { $0.offset % 2 == 1 }.map { String($0.element) }
    }

    /// All that is written in the tests.
    private static func sources() throws -> String {
        let tests = root.appendingPathComponent("Tests")
        let files = FileManager.default.enumerator(at: tests, includingPropertiesForKeys: nil)
        var text = ""
        for case let file as URL in files ?? FileManager.DirectoryEnumerator() where file.pathExtension == "swift" {
            if file.lastPathComponent != "ReliabilityTableTests.swift" {
                text += try String(contentsOf: file, encoding: .utf8)
            }
        }
        return text
    }

    @Test("has every case, once and in order, with a test or what is open")
    func complete() throws {
        let rows = try Self.rows()
        let numbers = rows.map(\.number)
        #expect(numbers == numbers.sorted() && Set(numbers).count == numbers.count)
        #expect(numbers.starts(with: 1...34))
        for row in rows {
            let shown = try #require(row.cells.last)
            #expect(row.cells.count == 3, "R\(row.number)")
            #expect(!Self.namedTests(in: shown).isEmpty || shown.hasPrefix("Open"), "R\(row.number)")
        }
    }

    @Test("names only tests that exist")
    func testsExist() throws {
        let sources = try Self.sources()
        // A name stands right after `@Test(`, on the same line or on one of its own.
        let declared = sources.replacing(#/@Test\(\s+"/#, with: "@Test(\"")
        for row in try Self.rows() {
            for name in Self.namedTests(in: row.cells.last ?? "") {
                #expect(declared.contains("@Test(\"\(name)\""), "R\(row.number): \(name)")
            }
        }
    }
}
