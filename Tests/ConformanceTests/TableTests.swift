import Foundation
import Testing

@Suite("docs/otp-conformance.md")
struct TableTests {
    private struct Row {
        var number: Int
        var name: String
        var test: String
    }

    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private func page() throws -> String {
        try String(contentsOf: Self.root.appendingPathComponent("docs/otp-conformance.md"), encoding: .utf8)
    }

    private func rows() throws -> [Row] {
        try page().split(separator: "\n").compactMap { line in
            let cells = line.split(separator: "|", omittingEmptySubsequences: false)
                .map { $0.trimmingCharacters(in: .whitespaces) }
            guard cells.count == 6, let number = Int(cells[1]) else { return nil }
            return Row(number: number, name: cells[2], test: cells[4])
        }
    }

    /// The cases that the tests name, each as `Suite: case`.
    private func tests() throws -> [String] {
        let folder = Self.root.appendingPathComponent("Tests/ConformanceTests/Suite")
        let files = try FileManager.default.contentsOfDirectory(at: folder, includingPropertiesForKeys: nil)
        var found: [String] = []
        for file in files where file.pathExtension == "swift" {
            var suite = "?"
            var isInAttribute = false
            for line in try String(contentsOf: file, encoding: .utf8).split(separator: "\n") {
                if line.hasPrefix("struct ") { suite = String(line.dropFirst(7).prefix { $0.isLetter }) }
                if line.contains("@Test(") { isInAttribute = true }
                guard isInAttribute, let quote = line.firstIndex(of: "\"") else { continue }
                isInAttribute = false
                let name = line[line.index(after: quote)...].prefix { $0 != ":" }
                found.append("\(suite): \(name)")
            }
        }
        return found
    }

    @Test("has a row for each of the 93 cases")
    func complete() throws {
        let rows = try rows()
        #expect(rows.map(\.number) == Array(1...93))
        #expect(Set(rows.map(\.name)).count == 93)
    }

    @Test("names a test for each case, or a reason; and every test of a case is named")
    func agrees() throws {
        let tests = try tests()
        #expect(Set(tests).count == tests.count)
        var named: Set<String> = []
        for row in try rows() {
            if row.test.hasPrefix("– ") {
                #expect(row.test.count > 12, "case \(row.number), \(row.name), has no reason")
                #expect(!tests.contains { $0.hasSuffix(": " + row.name) }, "\(row.name) has a test after all")
            } else {
                named.insert(row.test.replacingOccurrences(of: "`", with: "") + ": " + row.name)
            }
        }
        #expect(named.subtracting(tests).isEmpty, "in the table, and no test")
        #expect(Set(tests).subtracting(named).isEmpty, "a test, and not in the table")
    }

    @Test("lists every deliberate difference", arguments: DeliberateDifference.allCases)
    func differences(difference: DeliberateDifference) throws {
        #expect(try page().contains("| \(difference.rawValue) |"))
    }
}
